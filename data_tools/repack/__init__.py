"""`mmae repack`: from MMEarth's HDF5 file to tar shards and their index.

Here: which rows make which shard, packing one tile, writing one shard, the locks and records of several processes, and
the index at the end. Not here: the format of a payload, which the reader shares (`mmae.data.shards`).
Start with `pipeline.py`; `shard_writer.py` and `tile_packer.py` write the bytes.
"""
