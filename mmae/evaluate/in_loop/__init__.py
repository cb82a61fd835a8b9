"""Probes of an encoder while it trains: a few small fits on a fixed choice of tiles, at intervals.

Here: which tiles, their labels, a whole copy of the encoder on each rank, and the order of work in which no rank waits
for one that failed. Not here: the methods and metrics (`mmae.evaluate.frozen`). Start with `probes.py`.
"""
