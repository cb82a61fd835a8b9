"""What a start of training checks of its tiles before a model is built.

Here: statistics that cover all tiles, units of stored values, splits that share tiles. Not here: reading or
normalising tiles for training. Start with `sample_check.py`; `value_check.py` also checks arrays that users hand over.
"""
