"""A pool of worker processes for repack, verify and stats, and the progress that they report.

Here: the pool, a worker's loop, and the progress line. Workers end when their parent does. Not here: the workers of a
training's data loader (`mmae.data.loading`). Start with `pool.py`.
"""
