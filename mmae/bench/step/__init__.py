"""`mmae bench step`: a training step's speed and memory, beside its matrix products alone and a plain model.

Start with `command.py`; what is compared is in `step_variants.py`.
"""
