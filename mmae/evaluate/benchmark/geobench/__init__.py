"""GEO-Bench v1: its twelve tasks, read from its files without running anything that they hold.

Here: layout, names of bands, corrections, labels. Start with `geobench_task.py`.
"""
