"""`mmae bench step`: a training step's speed and memory, compared with its matrix products and with a plain model.

Start with `command.py`. The variants that are compared are in `step_variants.py`.
"""
