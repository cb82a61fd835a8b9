"""Files of labels that people write for tiles: a line a tile, in CSV or Parquet.

Here: the lines and columns of such a file, and its numbers. Not here: which tiles there are, and what a label means to
a task. Start with `label_lines.py`.
"""
