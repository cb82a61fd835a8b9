"""What a task of a benchmark is, whatever suite it is from. Start with `benchmark_task.py`."""
