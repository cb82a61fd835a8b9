"""The process that holds a run's lock, and whether it still lives."""

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
    """A process, described so that a later one with the same number is not mistaken for it.

    Attributes:
        host: name for people.
        started: when the process started, in the kernel's ticks since boot.
        machine: boot of the machine and process-number space. Processes with the same value see one another.
        since: local time at which it took the lock.
    """

    host: str
    pid: int
    started: str
    machine: str
    since: str

    def __str__(self) -> str:
        return f"{self.host}, process {self.pid}, since {self.since}"

    def render(self) -> str:
        """The content of the lock's file."""
        return json.dumps(asdict(self)) + "\n"


def this_process() -> Holder:
    """This process, as a holder."""
    since = time.strftime("%Y-%m-%d %H:%M:%S %Z").strip()
    return Holder(socket.gethostname(), os.getpid(), started(os.getpid()), this_machine(), since)


def parse_holder(text: str) -> Holder | None:
    """The holder that a lock's file names; None if the content is not complete."""
    try:
        holder = Holder(**parse_json(text))
    except (ValueError, TypeError):
        return None
    return holder if type(holder.pid) is int and holder.pid > 0 else None


def is_here(holder: Holder) -> bool:
    """Whether this process could see the holder's process."""
    return bool(holder.machine) and holder.machine == this_machine()


def lives(holder: Holder) -> bool:
    """Whether the process of a holder that `is_here` still exists, and is not a later one with its number."""
    return started(holder.pid) == holder.started != ""


def opened_stat(path: Path) -> os.stat_result:
    """Status of a file. The file is opened first, so that a network file system asks its server.

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
