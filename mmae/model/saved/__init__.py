"""A model folder: weights as safetensors and a `config.json`, written whole or not at all.

Not here: checkpoints of a training (`mmae.engine.checkpoint`). Start with `saved_model.py`.
"""
