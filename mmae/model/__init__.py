"""The model: plain PyTorch on one device, and the files that a trained one lives in.

Here: tokenizer, masking, encoder, decoders, recomputation, features for users. Sub-packages: `counts` (parameters and
operations in closed form, without torch), `published` (names and files of the published code), `saved` (our own files).
Not here: losses (`mmae.losses`), training (`mmae.engine`). Start with `mmae.py`, then `encoder.py` and `decoders.py`.
"""
