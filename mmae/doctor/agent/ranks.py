"""The ranks that an agent starts for an all-reduce: their progress and their end."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Final

from mmae.doctor.agent.all_reduce import PHASES, Task
from mmae.doctor.agent.messages import parse_json

RUNS: Final = -1000
"""Stands for the exit status of a process that still runs."""
_GRACE_S: Final = 1.0
_LONGEST: Final = 4096
_BACKLOG: Final = 1024


@dataclass(frozen=True)
class RankSaid:
    """The progress of a rank.

    Attributes:
        phase: the last of `PHASES` that it has reached.
        why: the reason of its failure, or its last line of output.
        status: its exit status.
    """

    rank: int
    phase: str = "start"
    why: str = ""
    bytes: int = 0
    seconds: list[float] = field(default_factory=list)
    status: int = RUNS


class Ranks:
    """The ranks of one host."""

    def __init__(self) -> None:
        self._listener: socket.socket | None = None
        self._ranks: list[_Rank] = []

    def meet(self, address: str) -> int:
        """Open the port of the store, on this address only."""
        self.end()
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listener = socket.create_server((address, 0), family=family, backlog=_BACKLOG)
        port: int = self._listener.getsockname()[1]
        return port

    def start(self, first: int, count: int, task: Mapping[str, object]) -> int:
        """Start ranks `first`, `first + 1`, ...; `task` holds the remaining fields of `Task`."""
        for local_rank in range(count):
            rank = first + local_rank
            listener = self._listener if rank == 0 else None
            told = {**task, "rank": rank, "listener": listener.fileno() if listener else -1}
            made = Task(**told)  # type: ignore[arg-type]
            self._ranks.append(_Rank(made, listener, variables_of(made, local_rank, count)))
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        return count

    def said(self) -> list[RankSaid]:
        return [rank.said() for rank in self._ranks]

    def end(self) -> None:
        """End the ranks: close their input, and kill those that still run after a grace."""
        ranks, self._ranks = self._ranks, []
        for rank in ranks:
            rank.close_input()
        until = time.monotonic() + _GRACE_S
        for rank in ranks:
            rank.end(until)
        if self._listener is not None:
            self._listener.close()
            self._listener = None


def variables_of(task: Task, local_rank: int, count: int) -> dict[str, str]:
    """The variables that DeepSpeed's launch process would set for a rank.

    Args:
        count: number of ranks on this host.
    """
    return {
        "RANK": str(task.rank), "WORLD_SIZE": str(task.world), "LOCAL_RANK": str(local_rank), "LOCAL_SIZE": str(count),
        "MASTER_ADDR": task.meeting_place, "MASTER_PORT": str(task.port),
    }  # fmt: skip


class _Rank:
    def __init__(self, task: Task, listener: socket.socket | None, variables: Mapping[str, str]) -> None:
        self._token = task.token.encode()
        self._said = RankSaid(task.rank)
        self._words = ""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mmae.doctor.agent.all_reduce"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            pass_fds=() if listener is None else (listener.fileno(),),
            # The doctor's own messages are clearer than the warnings of NCCL and gloo.
            env={**os.environ, **variables, "TORCH_CPP_LOG_LEVEL": "ERROR"},
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, name=f"rank {task.rank}", daemon=True)
        self._reader.start()
        assert self._process.stdin is not None
        # The exit status shows if the process has ended already.
        with suppress(OSError):
            self._process.stdin.write(json.dumps(asdict(task)).encode() + b"\n")
            self._process.stdin.flush()

    def said(self) -> RankSaid:
        said, status = self._said, self._process.poll()
        if status is None:
            return said
        self._reader.join(_GRACE_S)
        said = self._said
        return RankSaid(said.rank, said.phase, said.why or self._words, said.bytes, said.seconds, status)

    def close_input(self) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()

    def end(self, until: float) -> None:
        try:
            self._process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(_GRACE_S)
        if self._process.stdout is not None and not self._reader.is_alive():
            self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in iter(lambda: self._process.stdout.readline(_LONGEST), b""):  # type: ignore[union-attr]
            mark, _, text = line.partition(b" ")
            if mark == self._token:
                with suppress(ValueError, TypeError):
                    self._take(parse_json(text.decode()))
            elif words := line.decode(errors="replace").strip():
                self._words = words[:300]

    def _take(self, content: object) -> None:
        if isinstance(content, dict) and content.get("phase") in PHASES:
            self._said = RankSaid(self._said.rank, **content)
