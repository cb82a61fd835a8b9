"""`mmae bench shuffle`: how well an epoch's order mixes a shard set, beside a perfect shuffle.

Start with `command.py`.
"""
