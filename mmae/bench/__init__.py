"""`mmae bench`: speeds on this machine, compared with other implementations and with the limit of the machine.

Each measurement has its own package: `loader`, `repack`, `shuffle`, `step`. The modules here measure alternatives
in turns and collect the facts of the machine. Start with `runner.py`.
"""
