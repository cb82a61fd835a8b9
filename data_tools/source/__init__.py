"""MMEarth as it is published: one HDF5 file and the JSON files beside it, read and checked.

Here: opening a source, its table of tiles, its JSON files, and reading tiles by their bytes without HDF5.
Not here: anything that writes shards (`data_tools.repack`). Start with `dataset.py`.
"""
