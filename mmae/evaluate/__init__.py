"""How good a model is: scores, baselines and pictures.

Here: scores on validation's own pixels, constant predictions to compare with, and pictures of reconstructions.
Sub-packages: `frozen` (what is fitted on features), `in_loop` (probes while training).
Not here: the validation loss during training (`mmae.engine.validate`). Start with `scores.py`.
"""
