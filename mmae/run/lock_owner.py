"""Who holds a run's lock, and whether that process still lives."""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from mmae.disk.json_text import parse_json
from mmae.disk.regular_file import regular_descriptor
from mmae.processes import started, this_machine


@dataclass(frozen=True)
class Holder:
    """A process, so that it can be told from a later one with the same number.

    Attributes:
        host: for people.
        started: of the process, in the kernel's ticks since boot.
        machine: boot of the machine, and the process's number space: those of one are seen by one another.
        since: when it took the lock, local time.
    """

    host: str
    pid: int
    started: str
    machine: str
    since: str

    def __str__(self) -> str:
        return f"{self.host}, process {self.pid}, since {self.since}"

    def render(self) -> str:
        """As it stands in the lock's file."""
        return json.dumps(asdict(self)) + "\n"


def this_process() -> Holder:
    """The process that asks."""
    since = time.strftime("%Y-%m-%d %H:%M:%S %Z").strip()
    return Holder(socket.gethostname(), os.getpid(), started(os.getpid()), this_machine(), since)


def parse_holder(text: str) -> Holder | None:
    """Who a lock's file names; None where it is not whole."""
    try:
        holder = Holder(**parse_json(text))
    except (ValueError, TypeError):
        return None
    return holder if type(holder.pid) is int and holder.pid > 0 else None


def is_here(holder: Holder) -> bool:
    """Whether its process, if it lives, is one that this process can see."""
    return bool(holder.machine) and holder.machine == this_machine()


def lives(holder: Holder) -> bool:
    """Whether a process `is_here` and is still the same one."""
    return started(holder.pid) == holder.started != ""


def opened_stat(path: Path) -> os.stat_result:
    """What a file is; it is opened for that, so that a network file system asks its server.

    Raises:
        FileNotFoundError: it is gone.
    """
    descriptor = regular_descriptor(path)
    try:
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


def age_s(path: Path) -> float:
    """Seconds since a file was last touched.

    Raises:
        FileNotFoundError: it is gone.
        OSError: no file can be made beside it.
    """
    touched = opened_stat(path).st_mtime
    probe = path.with_name(f"{path.name}-{secrets.token_hex(6)}")
    probe.touch(exist_ok=False)
    try:
        return opened_stat(probe).st_mtime - touched
    finally:
        probe.unlink()
