"""What the system tells about processes, their memory and their machine, and how one ends with another."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import subprocess

_PR_SET_PDEATHSIG: Final = 1
"""Of linux/prctl.h."""
_PASSED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


def this_machine() -> str:
    """A name for this boot of this machine and its process-number space; empty if the system does not give it.

    Processes with the same name can see one another.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def memory_of_this_process(what: str) -> int:
    """Bytes of resident memory: `VmRSS` for now, `VmHWM` for the peak; 0 if the system does not give it."""
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name == what:
            return int(value.split()[0]) * 1024
    return 0


def started(pid: int) -> str:
    """When a living process started, in ticks since boot; empty if it does not exist or is a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # The name, in brackets, may hold anything.
    state, *fields = text.rpartition(")")[2].split()
    return "" if state in {"Z", "X"} else fields[18]


def parent_of(pid: int) -> int:
    """The parent of a process; 0 if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        # The name, in brackets, may hold anything.
        return int(text.rpartition(")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return 0


def command_words(pid: int) -> list[str]:
    """The words of a process's command line; none where it cannot be read."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def command_of(pid: int) -> str:
    """The beginning of a process's command line, for people; empty where it cannot be read."""
    words = " ".join(command_words(pid))
    return "".join(letter if letter.isprintable() else " " for letter in words)[:80].strip()


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


@contextmanager
def passing_signals_to(process: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    """In this block signals that ask this process to stop go to another one. Gives the list of those that came."""
    came: list[int] = []

    def forward(number: int, _: FrameType | None) -> None:
        came.append(number)
        process.send_signal(number)

    before: dict[int, Any] = {number: signal.signal(number, forward) for number in _PASSED}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
