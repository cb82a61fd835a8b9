"""The kit of the pages: markup that escapes by itself, charts and maps as inline SVG, style.

Nothing here knows runs or tiles. Start with `markup.py` and `chart.py`.
"""
