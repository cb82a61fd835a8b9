"""How good a model is: scores, baselines and pictures.

Here: scores on validation's own pixels, constant predictions to compare with, pictures of reconstructions, and scores
of frozen features (`frozen`, `probe`). Not here: the validation loss during training (`mmae.engine.validate`). Start
with `scores.py`, or with `probe/__init__.py`.
"""
