"""What the Hugging Face hub shows and loads of a model folder.

Here: the model card (README.md), the facts of a training that it tells, and `mmae.MultiMAE`, which loads from the hub
and is pushed to it. Not here: weights and config.json, which are `mmae.model.saved`. Start with `model_card.py`.
"""
