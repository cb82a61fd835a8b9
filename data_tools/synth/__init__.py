"""`mmae synth`: a small made-up data set in MMEarth's layout, with every no-data case in it.

Here: invented landscapes, the ways in which a tile can lack data, and their statistics. Start with `command.py`.
"""
