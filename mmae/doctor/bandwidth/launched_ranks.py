"""The ranks of the all-reduce, started by a launcher of trainings in a process of its own, and what they report.

`python -m mmae.doctor.bandwidth.launched_ranks PARENT GPUS WORDS` is that process. It stops the ranks when it gets a
SIGTERM, and also when the doctor is killed.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final, Self

from mmae.distributed.network_interface import free_port
from mmae.doctor.agent.messages import parse, parse_json
from mmae.doctor.bandwidth.rank import MARK, PHASES, RUNS, RankSaid
from mmae.launch import multi_node, single_node
from mmae.launch.entry import entry
from mmae.launch.supervision.launched_job import killed_rank
from mmae.launch.supervision.local_ranks import LocalRanks
from mmae.launch.supervision.supervise import supervise
from mmae.processes import die_with_parent

_GRACE_S: Final = 2
"""Ranks end at once when they are asked to; those that cannot are killed."""
_LEAVE_S: Final = 5.0
"""Ranks that are done end by themselves, and DeepSpeed's processes after them, if they are quick."""
_END_S: Final = 25.0
"""pdsh may wait for a host that is cut off."""
_LAST_WORDS_S: Final = 2.0
_LONGEST: Final = 4096
_KEPT: Final = 200
_ERROR: Final = re.compile(r"^error: |\b\w*(Error|Exception): ")
_GONE: Final = re.compile(r"pdsh@[^:]*: (?P<host>\S+): ssh exited with exit code (?P<status>\d+)$")
"""pdsh says it when DeepSpeed's process on a host ends, or ssh fails."""
_SSH_FAILED: Final = 255
_SIGNAL: Final = 128


class LaunchedRanks:
    """A launch, from its start to its end: the ranks end with this context.

    Args:
        words: of the launcher, as `main` takes them.
        addresses: of the host of each rank, in the order of the ranks.
        environment: variables that the launcher gets beside those of this process.
    """

    def __init__(self, words: Sequence[str], addresses: Sequence[str], environment: Mapping[str, str]) -> None:
        self._addresses = addresses
        self._said = [RankSaid(rank) for rank in range(len(addresses))]
        self._words: deque[str] = deque(maxlen=_KEPT)
        kept = {name: value for name, value in os.environ.items() if name != "DRY_RUN"}
        # As in an environment that is activated: the launcher finds `deepspeed` beside this Python.
        path = os.pathsep.join(filter(None, [str(Path(sys.executable).parent), kept.get("PATH", "")]))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mmae.doctor.bandwidth.launched_ranks", str(os.getpid()), *words],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
            env={**kept, "PATH": path, "MMAE_GRACE": str(_GRACE_S), **environment},
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, name="ranks' reports", daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._ends_within(_LEAVE_S if self.all_done else 0):
            self._process.terminate()
        if not self._ends_within(_END_S):
            self._process.kill()
            self._process.wait()
        self._reader.join(_LAST_WORDS_S)
        # A process that is left over may hold the pipe, and then closing would wait for the reader.
        if self._process.stdout is not None and not self._reader.is_alive():
            self._process.stdout.close()

    def said(self) -> list[RankSaid]:
        """What each rank has reported so far."""
        return list(self._said)

    @property
    def all_done(self) -> bool:
        return all(rank.phase == "done" for rank in self._said)

    def why_ended(self) -> str:
        """How the launcher has ended, in its own words; empty while it runs."""
        status = self._process.poll()
        if status is None:
            return ""
        self._reader.join(_LAST_WORDS_S)
        lines = list(self._words)
        line = next((line for line in lines if _ERROR.search(line)), lines[-1] if lines else "it said nothing")
        return f"the launcher ended with status {status}: {line.removeprefix('error: ')}"

    def _ends_within(self, seconds: float) -> bool:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self._process.poll() is not None

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in iter(lambda: self._process.stdout.readline(_LONGEST), b""):  # type: ignore[union-attr]
            words, mark, report = line.decode(errors="replace").partition(MARK)
            if mark:
                with suppress(ValueError):
                    self._take(parse_json(report))
            elif words.strip():
                self._words.append(words.strip())
                if gone := _GONE.search(words.strip()):
                    self._lose(gone["host"], int(gone["status"]))

    def _lose(self, label: str, status: int) -> None:
        """Take the ranks of a host for ended. A rank that has reported its own end keeps that."""
        own = (line.partition(f"{label}: ")[2] for line in self._words if line.startswith(f"{label}: "))
        why = next(filter(_ERROR.search, own), "")
        # A rank that a signal ended, or the launch process itself.
        if status != _SSH_FAILED and (shell := killed_rank(status)) > _SIGNAL:
            status = _SIGNAL - shell
        for number, address in enumerate(self._addresses):
            said = self._said[number]
            # pdsh may shorten a name.
            if label in {address, address.partition(".")[0]} and said.phase != "done" and said.status == RUNS:
                self._said[number] = replace(said, status=status, why=said.why or why)

    def _take(self, news: object) -> None:
        if not isinstance(news, dict) or news.get("rank") not in range(len(self._said)):
            return
        number = int(news["rank"])
        said = parse(RankSaid, {**asdict(self._said[number]), **news})
        if said.phase in PHASES:
            self._said[number] = said


@entry
def main(parent: str, gpus: str, *words: str) -> int:
    """Launch ranks. Returns the launcher's exit status.

    Args:
        parent: process id of the doctor.
        gpus: number of GPUs that torch can use on this machine, for `single_node.sh`; "" for `multi_node.sh`.
        words: of that launcher.
    """
    die_with_parent(signal.SIGTERM, int(parent))
    if not gpus:
        return multi_node.main(*words)
    start = single_node.plan_start(words, os.environ, lambda: int(gpus), free_port())
    return supervise(LocalRanks(single_node.SCRIPT, start.command), start.restarts)


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
