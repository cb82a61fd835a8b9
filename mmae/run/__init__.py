"""A run's folder, and what a start of training will do in it.

Here: every name in the folder (`layout`), its lock (`locking`), its recipe, what a start will do (`spec`), and reading
how a run does from outside (`state`, `status`). Not here: checkpoints' content (`mmae.engine.checkpoint`) or writing
the log (`mmae.engine.telemetry`). Start with `layout.py` and `spec.py`.
"""
