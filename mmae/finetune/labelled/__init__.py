"""Labels of tiles: where they lie, which tiles have which, and how a sample gets its own.

Here: sources of labels (`label_sources`), splits by blocks of ground, the census that is said at the start, samples,
and the picture of a batch. Not here: what a model or a loss does with them. Start with `label_sources.py`.
"""
