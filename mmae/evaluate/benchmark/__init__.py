"""The field's benchmarks: their tasks as batches that the encoder takes, and the scores of an encoder on them.

Here: `mmae benchmark`. Not here: probes on MMEarth's own labels. Start with `tasks/benchmark_task.py`: what a reader of
a suite offers. Then see `command.py`.
"""
