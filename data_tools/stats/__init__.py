"""`mmae stats`: mean and deviation of each band over the valid pixels of a split.

Here: sums that are exact for integers, and moments from them. Not here: the normalisation of tiles
(`mmae.data.transforms.normalise`). Start with `command.py`.
"""
