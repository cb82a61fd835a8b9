"""Labelled tiles that do not lie in shards: suites, folders of GeoTIFFs, data sets of TorchGeo.

Here: one protocol that each source follows (`labelled_data`), and how any of them is read as a shard set is
(`source_set`). Not here: splits, the census, samples (`labelled`). Start with `labelled_data.py`, then
`open_source.py`.
"""
