"""Pictures of reconstructions.

Here: a tile's rows in real numbers (`tile_rows`), their colours, and two ways to draw them: `tile_figure` (matplotlib)
and `plain_grid` (Pillow, where matplotlib is not installed). Start with `tile_rows.py`.
"""
