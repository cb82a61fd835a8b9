"""What the programs print: tables, and errors in one line.

Here: one table for people and for JSON, an error in one line, text made safe to print, and the end of a command.
Not here: the log of a run (`mmae.engine.telemetry`). Start with `table.py`.
"""
