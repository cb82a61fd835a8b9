"""Tar shards and their index on disk: the format, and how it is read.

Here: payload codec, tar layout, index, and readers that know local files only. Not here: shards elsewhere
(`mmae.data.remote`), or which tiles are wanted (`mmae.data.sampling`). Start with `index.py`, then `reader.py`.
"""
