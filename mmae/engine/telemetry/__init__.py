"""What a training reports while it runs, and how it ends.

Here: log.jsonl, trackers, records of steps and samples, timers, per-rank logs, the profiler, advice after
out-of-memory, and the last line. None of it may end or slow a training. Not here: reading the log
(`mmae.run.log_reader`). Start with `run_log.py` and `step_records.py`.
"""
