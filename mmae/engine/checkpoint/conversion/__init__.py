"""Checkpoints for another number of ranks, through DeepSpeed's universal form.

Not here: whole weights on one process (`consolidate.py`), saving and resuming. Start with `reshape.py`.
"""
