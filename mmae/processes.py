"""What the system tells of processes: living ones from later ones with the same number, machines, memory."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1  # of linux/prctl.h


def this_machine() -> str:
    """Name of this boot of this machine and of the number space of processes; empty where the system does not tell.

    Processes of one such name can see one another.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def memory_of_this_process(what: str) -> int:
    """Bytes of resident pages: `VmRSS` now, `VmHWM` at most; 0 where the system does not tell."""
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name == what:
            return int(value.split()[0]) * 1024
    return 0


def started(pid: int) -> str:
    """When a living process was started, in ticks since boot; empty where there is none, or only its remains."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # The name, in brackets, may hold anything.
    state, *fields = text.rpartition(")")[2].split()
    return "" if state in {"Z", "X"} else fields[18]


def parent_of(pid: int) -> int:
    """The process that started it, or that it was left to; 0 where there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        # The name, in brackets, may hold anything.
        return int(text.rpartition(")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return 0


def children_of(parent: int) -> list[int]:
    """Living processes that it has started; none where the system does not tell."""
    everyone = (int(path.name) for path in Path("/proc").glob("[0-9]*"))
    return sorted(pid for pid in everyone if parent_of(pid) == parent and started(pid))


def die_with_parent(number: signal.Signals, parent: int) -> None:
    """Have the kernel send this process a signal when its parent ends, also where Python gets no turn. Linux only.

    Args:
        parent: the parent's process id; the parent may have ended before this call.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        signal.raise_signal(number)
