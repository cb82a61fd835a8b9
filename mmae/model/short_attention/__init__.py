"""Attention over at most 64 tokens in one kernel a direction, written in Triton: `model.attention=short`."""
