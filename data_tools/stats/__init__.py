"""`mmae stats`: mean and deviation of each band over the valid pixels of a split.

Here: sums that are exact for integers, and the moments that follow. Not here: applying them to tiles
(`mmae.data.transforms.normalise`). Start with `command.py`.
"""
