"""MMEarth-Bench: five tasks on tiles with MMEarth's own modalities, a file a task. Start with `bench_task.py`."""
