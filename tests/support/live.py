"""A training that goes on while a test does something to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.commands import DEADLINE, Finished, command_environment

FOR_LONG = ("train.max_steps=5000", "checkpoint.every=1000", "val.every=0")
"""Overrides of a training that only ends because something ends it."""


def records_so_far(run: Path, kind: str) -> list[dict[str, Any]]:
    """The whole lines that log.jsonl of a run holds; nothing where there is none yet."""
    file = run / "log.jsonl"
    # The last may be half written: who reads sees the pages of a file grow one by one.
    lines = file.read_text().split("\n")[:-1] if file.is_file() else []
    return [record for record in map(json.loads, lines) if record["kind"] == kind]


def losses_so_far(run: Path) -> dict[int, Any]:
    """Training losses by step; of one that was done twice, the later."""
    return {record["step"]: record["losses"] for record in records_so_far(run, "train")}


class Live:
    """A started training."""

    def __init__(self, process: subprocess.Popen[str], folder: Path, name: str) -> None:
        self.process = process
        self.folder = folder
        self._name = name

    def records(self, kind: str) -> list[dict[str, Any]]:
        """What log.jsonl holds so far."""
        return records_so_far(self.folder, kind)

    def wait_for_step(self, step: int) -> None:
        self._wait_for(lambda: any(record["step"] >= step for record in self.records("train")))

    def ranks(self) -> list[int]:
        """Process ids of the ranks, by rank."""
        found = {}
        for pid in self.everything():
            try:
                place = Path(f"/proc/{pid}")
                pairs = [
                    entry.split(b"=", 1) for entry in (place / "environ").read_bytes().split(b"\0") if b"=" in entry
                ]
                parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if (rank := dict(pairs).get(b"RANK")) is not None:
                found[pid] = (parent, int(rank))
        # A rank's workers are its children, with the same environment.
        ranks = {rank: pid for pid, (parent, rank) in found.items() if parent not in found}
        return [ranks[rank] for rank in sorted(ranks)]

    def everything(self) -> list[int]:
        """Process ids of all that was started and works in the test's own folder: nobody else's."""
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            try:
                if (place / "cwd").readlink() == self.folder.parent and f"run.dir={self._name}".encode() in (
                    place / "cmdline"
                ).read_bytes().split(b"\0"):
                    found.append(int(place.name))
            except OSError:
                continue
        return found

    def finish(self, deadline: float = DEADLINE) -> Finished:
        out, err = self.process.communicate(timeout=deadline)
        return Finished(self.process.returncode, out, err)

    def _wait_for(self, true: Callable[[], bool]) -> None:
        end = time.monotonic() + DEADLINE
        while not true():
            if self.process.poll() is not None:
                done = self.finish()
                raise AssertionError(f"ended with {done.status}: {done.out[-3000:]}{done.err[-3000:]}")
            if time.monotonic() > end:
                raise AssertionError(f"nothing came in {DEADLINE} s: {self._told()}")
            time.sleep(0.05)

    def _told(self) -> str:
        """What the training and its ranks said, and where its processes wait; it is ended for that."""
        left = self.everything()
        waits = [f"{pid}: {_read(pid, 'wchan')} {_read(pid, 'cmdline')[-150:]}" for pid in left]
        kill(left)
        # Whatever it started in its session holds its pipes.
        os.killpg(self.process.pid, signal.SIGKILL)
        done = self.finish(60)
        logs = [f"{file}: {file.read_text(errors='replace')[-3000:]}" for file in self.folder.glob("logs/*")]
        return "\n".join([*waits, done.out[-3000:], done.err[-3000:], *logs])


def kill(pids: Sequence[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace").replace("\0", " ")
    except OSError:
        return "gone"


@contextmanager
def started(words: Sequence[str | Path], cwd: Path, name: str, **environment: str) -> Iterator[Live]:
    """Start a command whose run's folder is `name`; what is left of it at the end is killed."""
    process = subprocess.Popen(
        [str(word) for word in words],
        cwd=cwd, env=command_environment(**environment), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    live = Live(process, cwd.resolve() / name, name)
    try:
        yield live
    finally:
        kill(live.everything())
        process.kill()
        process.communicate()
