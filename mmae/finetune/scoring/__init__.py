"""How good predictions are: scores over all ranks, the confusion matrix, and files of predictions.

Here: `task_scores` (start there), the matrix as table and picture, Parquet and GeoTIFF files. Not here: when what is
scored.
"""
