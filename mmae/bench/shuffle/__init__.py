"""`mmae bench shuffle`: how well an epoch's order mixes a shard set, compared with a perfect shuffle.

Start with `command.py`.
"""
