"""`mmae bench`: speeds on this machine, beside those of other implementations and beside the limit of the machine.

Rooms: `loader`, `repack`, `shuffle`, `step`, one for each measurement. Here beside them: measuring
alternatives in turns, and the facts of the machine. Start with `runner.py`.
"""
