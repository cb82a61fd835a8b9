"""Scenes and results on disk: GeoTIFFs that are read, partial outputs, and the GeoTIFF or Parquet file at the end.

Start with `geotiffs.py` for what is read, and with `partial_output.py` for what is written.
"""
