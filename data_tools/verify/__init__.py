"""`mmae verify`: is every shard what was packed, and is that what the source holds?

Here: checks of a set, a shard, a tile and a tar header, and the repair of damaged shards. These checks read by other
means than those that packed. Not here: writing shards (`data_tools.repack`), which a repair uses.
Start with `check_set.py`.
"""
