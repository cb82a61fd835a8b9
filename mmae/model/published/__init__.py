"""Models of the published code: names, shapes and files, to and from ours.

Here: which model a checkpoint holds, the mapping of its weights, and reading it without trusting its pickle.
Not here: the commands (`mmae.publish.import_published`, `mmae.export`). Start with `weights.py`.
"""
