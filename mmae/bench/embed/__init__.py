"""`mmae bench embed`: a scene's windows a second, beside the encoder's forward pass alone. Start with `command.py`."""
