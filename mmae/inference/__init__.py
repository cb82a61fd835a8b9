"""A pretrained encoder for users' own arrays: bands by name, units and levels said, normalisation by itself.

Here: `mmae.load_encoder`. Not here: tensors that are normalised already (`mmae.model.features`), and MMEarth's own
arrays (`mmae.raw_tiles`), whose preparation this shares. Start with `raw_encoder.py`.
"""
