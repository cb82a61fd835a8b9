"""The encoder as a traced program at one image size: ONNX, and torch's own. Start with `encoder_program.py`."""
