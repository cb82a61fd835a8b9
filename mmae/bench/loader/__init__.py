"""`mmae bench loader`: shards to shuffled batches, beside h5py, webdataset and the limit of decoding.

Start with `command.py`; the ways that are compared are in `loader_ways.py`.
"""
