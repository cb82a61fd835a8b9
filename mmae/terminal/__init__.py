"""What the programs print: tables, and errors in one line.

Here: one table for people and for JSON, a rank's error in one line, and text from strangers made safe to print.
Not here: the log of a run (`mmae.engine.telemetry`). Start with `table.py`.
"""
