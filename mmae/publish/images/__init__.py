"""The encoder of one image under timm's names, for timm, transformers and TorchGeo. Start with `one_image.py`."""
