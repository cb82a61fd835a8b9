"""From stored integers to model inputs, on the device.

Here: what is data and what is not, crops and flips, normalisation, labels, and band statistics from a file.
Not here: any reading. Start with `preprocess.py`.
"""
