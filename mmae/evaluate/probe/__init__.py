"""`mmae probe`: what an encoder has learnt, by the labels that MMEarth's shards hold anyway.

Here: the tasks and their labels, splits by place, features of tiles on disk, and the table of scores beside those of
baselines. Not here: what is fitted on features (`mmae.evaluate.frozen`). Start with `probe_tasks.py`, then
`scoring.py`.
"""
