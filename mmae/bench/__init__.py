"""`mmae bench`: what this machine reaches, beside what others reach on it and what it could reach at most.

Rooms: `loader`, `repack`, `shuffle`, `step`, one for each measurement. Here beside them: how ways are measured in
turns, and what a measurement was taken on. Start with `runner.py`.
"""
