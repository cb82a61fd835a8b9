"""The network between hosts: measured, held against what a run needs, and diagnosed.

Here: the measurement, the demand of a recipe, and which host is to blame. Start with `measure.py`.
"""
