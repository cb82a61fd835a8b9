"""How good a model is: scores, baselines and pictures.

Here: scores on validation's own pixels, and constant predictions to compare with. Sub-packages: `pictures` of
reconstructions, `frozen` (what is fitted on features), `probe` (`mmae probe`), `in_loop` (probes while training),
`benchmark` (the field's suites). Not here: the validation loss during training (`mmae.engine.validate`). Start with
`scores.py`, or with `probe/__init__.py`.
"""
