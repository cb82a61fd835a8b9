"""Training: the engine, one optimiser step, and what watches over them.

Here: building model and engine, the step, values that are read later without waiting for the device, non-finite
losses, skipped updates, signals, validation, and what reaches into DeepSpeed (`deepspeed_internals`).
Sub-packages: `matrices` (Muon), `checkpoint` (save and resume), `telemetry` (what a run reports), `history` (one
history of a run).
Not here: the loop itself, which is `mmae/train.py`. Start with `build.py`, then `step.py`.
"""
