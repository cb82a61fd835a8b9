"""The lock of a run's folder: one training writes there, and a lock that nobody holds any more is taken over.

Start with `lock.py`; `lock_file` is the file on disk and `lock_owner` the process that holds it. Not here: the lock of
DeepSpeed's compiled operators (`mmae.engine.operators.op_lock`).
"""
