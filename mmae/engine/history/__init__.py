"""One history of a run: records of steps that a start does not go on with are archived.

Here: log records, TensorBoard's event files and Weights & Biases runs are split by step. Not here: writing records
(`mmae.engine.telemetry`). Start with `record_archive.py`.
"""
