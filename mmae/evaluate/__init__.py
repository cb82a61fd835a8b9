"""How good a model is: scores, baselines and pictures.

Here: scores on validation's own pixels, constant predictions to compare with, and pictures of reconstructions.
Not here: the validation loss during training (`mmae.engine.validate`). Start with `scores.py`.
"""
