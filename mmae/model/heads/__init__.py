"""Heads: from an encoder's output to class scores or numbers, of a whole tile or of each pixel.

Fine-tuned models and frozen benchmarks use the same ones. Start with `build_head.py` (which there are) and
`block_outputs.py` (what they read). timm and torchvision are imported by the heads that need them, when one is built.
"""
