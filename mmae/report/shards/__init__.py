"""`mmae data-report`: what is in a shard set, before a run. People find silent faults of data there.

Here: a sample of tiles in numbers (`sample`), its figures (`data_figures`), and the command. Start with `command.py`.
"""
