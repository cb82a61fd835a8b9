"""Which tiles a training sees, and in what order.

Here: the order of an epoch, mixtures of shard sets, selections, lists of keys, leaks between splits, and the requests
that batches are made of. The order is a pure function of seed and step. Not here: reading tiles
(`mmae.data.loading`). Start with `order.py`, then `mixture.py`.
"""
