"""`mmae bench loader`: shards to shuffled batches, compared with h5py, webdataset and the limit of decoding.

Start with `command.py`. The ways to read that are compared are in `loader_ways.py`.
"""
