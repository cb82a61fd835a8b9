"""Facts about the machine that measures, and the memory that a process does not share with others."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Final

from mmae.version import installed_version

PACKAGES: Final = ("numpy", "torch", "blosc2", "h5py", "webdataset", "zlib-ng", "xxhash")


def facts() -> dict[str, object]:
    """CPU, usable cores, memory, load before the run, and the versions of Python and packages."""
    return {
        "cpu": _cpu_name(),
        "cores": usable_cores(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "kernel": platform.release(),
        **{name: installed_version(name) for name in PACKAGES},
    }


def lines(known: dict[str, object]) -> list[str]:
    """The facts as notes under a table."""
    versions = ", ".join(f"{name} {known[name]}" for name in ("python", *PACKAGES))
    return [
        f"{known['cpu']}, {known['cores']} cores, {known['memory_gb']} GB; load {known['load']} before the run",
        f"{versions}; Linux {known['kernel']}",
    ]


def usable_cores() -> int:
    return len(os.sched_getaffinity(0))


def children(pid: int) -> list[int]:
    """The living descendants of a process."""
    try:
        direct = [int(word) for task in Path(f"/proc/{pid}/task").iterdir() for word in _children_of(task)]
    except OSError:
        return []
    return [*direct, *(below for child in direct for below in children(child))]


def own_bytes(pid: int) -> int:
    """Bytes that would become free if the process ended (its unique set size); 0 if they are not known."""
    try:
        entries = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(entry.split()[1]) * 1024 for entry in entries if entry.startswith("Private_"))


def _children_of(task: Path) -> list[str]:
    try:
        return (task / "children").read_text().split()
    except OSError:
        return []


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
