"""Conversion between models of the published code and ours: names, shapes and files.

Here: which model a checkpoint holds, the mapping of its weights, and reading it without trusting its pickle.
Not here: the commands (`mmae.publish.import_published`, `mmae.export`). Start with `weights.py`.
"""
