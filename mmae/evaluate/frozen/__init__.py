"""Scores of frozen features: what is fitted on the vectors of an encoder that does not change.

Here: nearest neighbours, logistic regression and ridge; the choice of block, pooling, normaliser and strength on
validation rows; metrics with bootstrap intervals; baselines; diagnostics of collapse; features kept on disk.
Not here: what the rows stand for. Nothing in this package knows MMEarth or any benchmark. Start with `parts.py`,
then `sweep.py`.
"""
