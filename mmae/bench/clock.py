"""Wall time and processor time of a measurement.

While others use the machine too, wall time says little. Processor time leaves out the time that others ran.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mmae.bench.machine import children

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_TIMES: Final = slice(11, 15)
"""Of the fields behind a process's name: user and system time, and those of its children that ended."""


@dataclass(frozen=True)
class Speed:
    """How fast some work was done.

    Attributes:
        tiles_per_s: tiles, or windows of a scene, a second; all processes together.
        cpu_us: processor time that a tile took, user and system, microseconds.
    """

    tiles_per_s: float
    cpu_us: float


def median(speeds: Sequence[Speed]) -> Speed:
    """The medians of both figures."""
    return Speed(
        statistics.median(speed.tiles_per_s for speed in speeds), statistics.median(speed.cpu_us for speed in speeds)
    )


class Stopwatch:
    """Runs from when it is made. It counts this process and its descendants."""

    def __init__(self) -> None:
        self._cpu = _cpu_seconds()
        self._wall = time.perf_counter()

    def speed(self, tiles: int) -> Speed:
        """The speed at which `tiles` were done since the start."""
        wall, cpu = time.perf_counter() - self._wall, _cpu_seconds() - self._cpu
        return Speed(tiles / wall, cpu / tiles * 1e6)


def _cpu_seconds() -> float:
    own = os.times()
    ended = own.children_user + own.children_system
    return time.process_time() + ended + sum(map(_seconds_of, children(os.getpid())))


def _seconds_of(pid: int) -> float:
    """Processor seconds of another process; 0 if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[_TIMES])) / _TICKS
