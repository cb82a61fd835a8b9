"""A task's tiles through a frozen encoder: bands, normalisation, windows, features. Start with `tile_inputs.py`."""
