"""`mmae bench repack`: HDF5 to shards, compared with h5py + webdataset's writer and with the limit of compression.

Start with `command.py`. The ways to repack that are compared are in `repack_ways.py`.
"""
