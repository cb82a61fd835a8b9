"""`mmae bench repack`: HDF5 to shards, beside h5py with webdataset's writer and the limit of compression.

Start with `command.py`; the ways that are compared are in `repack_ways.py`.
"""
