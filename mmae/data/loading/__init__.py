"""Tiles on their way from worker processes to the device.

Here: the loader, its workers, micro-batches in shared buffers, and the copy to the device. Not here: which tiles
(`mmae.data.sampling`), or what their values become (`mmae.data.transforms`). Start with `loader.py`.
"""
