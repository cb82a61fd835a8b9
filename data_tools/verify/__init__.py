"""`mmae verify`: does every shard hold the packed bytes, and do they agree with the source?

Here: checks of a set, a shard, a tile and a tar header, and the repair of damaged shards. These checks do not use the
code that packed the shards. Not here: writing shards (`data_tools.repack`), which a repair uses.
Start with `check_set.py`.
"""
