"""Training: the engine, one optimiser step, and what watches over them.

Here: building model and engine, the step, values that are read later without waiting for the device, non-finite
losses, skipped updates, signals and validation.
Sub-packages: `deepspeed_internals` (all that reaches into DeepSpeed), `operators` (what DeepSpeed compiles), `matrices`
(Muon), `gpu_options` (float8, CUDA graphs), `average` (averaged weights), `checkpoint` (save and resume), `telemetry`
(what a run reports), `history` (one history of a run).
Not here: the loop itself, which is `mmae/train.py`. Start with `build.py`, then `step.py`.
"""
