"""Runs beside a run: branches that cool down from a checkpoint, and ladders of sizes.

`branch` writes a run that goes on from another run's checkpoint; start reading there. What a run is and does is
`mmae.run` and `mmae.train`.
"""
