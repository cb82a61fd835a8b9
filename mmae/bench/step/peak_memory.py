"""The most memory that runs hold: the bytes that torch allocated on a GPU, or the process's resident pages on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from mmae.processes import memory_of_this_process

_FORGET_PEAK = "5"
"""Writing this to clear_refs resets VmHWM, the peak of resident pages (Linux: proc_pid_clear_refs)."""


def in_use(device: torch.device) -> int:
    """The bytes that are held now."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else memory_of_this_process("VmRSS")


def peak_during(run: Callable[[], object], device: torch.device) -> int | None:
    """The most bytes that were held during the run; None if the system cannot tell."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        run()
        return torch.cuda.max_memory_allocated(device)
    try:
        Path("/proc/self/clear_refs").write_text(_FORGET_PEAK, encoding="ascii")
    except OSError:
        return None
    run()
    return memory_of_this_process("VmHWM")
