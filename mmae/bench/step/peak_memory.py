"""The most memory that runs hold: what torch's allocator gave out on a GPU, the process's resident pages on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from mmae.processes import memory_of_this_process

_FORGET_PEAK = "5"
"""Written to clear_refs it sets VmHWM, the peak of resident pages, back to the present (Linux: proc_pid_clear_refs)."""


def in_use(device: torch.device) -> int:
    """Bytes that are held now."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else memory_of_this_process("VmRSS")


def peak_during(run: Callable[[], object], device: torch.device) -> int | None:
    """Bytes that were held at most while it ran; None where the system does not tell."""
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
