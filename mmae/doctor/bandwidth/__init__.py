"""The network between hosts: measured, held against what a run needs, and diagnosed.

Here: the measurement, its ranks, the demand of a recipe, and which host is to blame. Start with `measure.py`, then
`rank.py`, the program of a rank, which a launcher of trainings starts (`mmae.launch`).
"""
