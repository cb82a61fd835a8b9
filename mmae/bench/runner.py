"""Measures several ways to do the same work, each in its own process, in turns.

A machine's speed changes while others use it. So all ways take turns in every round, and medians are compared.
"""

from __future__ import annotations

import multiprocessing
import sys
import traceback
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from mmae.bench.clock import Speed, median
from mmae.bench.machine import children, own_bytes
from mmae.errors import InputError
from mmae.terminal.plurals import counted

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

_LOOK_SECONDS: Final = 0.5


class Way(Protocol):
    """A way to measure. It is pickled into the process that runs it."""

    def measure(self, processes: int) -> Speed:
        """Do the work with this many processes (1 means this process alone)."""


@dataclass(frozen=True)
class Result:
    """The result of one way with one number of processes.

    Attributes:
        tiles_per_s: the median over repetitions, all processes together.
        cpu_us: processor time that a tile took, user and system, all processes together: the median, microseconds.
        own_mb: the most unshared memory of a process that did the work; None if the work was too short to see it.
    """

    tiles_per_s: float
    cpu_us: float
    own_mb: float | None


def measure_all(
    ways: Mapping[str, Way], processes: int, repeats: int, progress: bool = True
) -> dict[tuple[str, int], Result]:
    """Measure each way with one process and with `processes`. The keys are (name, number of processes).

    Raises:
        InputError: a way raised it, or the process of a way ended.
    """
    counts = sorted({1, processes})
    speeds: dict[tuple[str, int], list[Speed]] = {(name, count): [] for count in counts for name in ways}
    memory = dict.fromkeys(speeds, 0)
    with ExitStack() as stack:
        runners = {name: stack.enter_context(_Runner(name, way)) for name, way in ways.items()}
        for count in counts:
            for repeat in range(repeats):
                for name, runner in runners.items():
                    speed, own = runner.measure(count)
                    speeds[name, count].append(speed)
                    memory[name, count] = max(memory[name, count], own)
                    if progress:
                        by = counted(count, "process", "processes")
                        told = f"{name}, {by}, {repeat + 1} of {repeats}: {speed.tiles_per_s:.0f} tiles/s"
                        print(told, file=sys.stderr, flush=True)
    medians = {key: median(found) for key, found in speeds.items()}
    return {key: Result(found.tiles_per_s, found.cpu_us, memory[key] / 1e6 or None) for key, found in medians.items()}


class _Runner:
    """A process that holds one way, so that a round does not measure imports and the opening of files again."""

    def __init__(self, name: str, way: Way) -> None:
        # Spawned, because a fork would inherit loaded modules and locks of threads.
        context = multiprocessing.get_context("spawn")
        self._name = name
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, way), name=name)
        self._process.start()
        theirs.close()

    def __enter__(self) -> _Runner:
        return self

    def __exit__(self, *_: object) -> None:
        self._ours.close()
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def measure(self, processes: int) -> tuple[Speed, int]:
        """The way's speed, and the most unshared bytes of one working process."""
        pid = self._process.pid
        assert pid is not None
        most = 0
        try:
            self._ours.send(processes)
            while not self._ours.poll(_LOOK_SECONDS):
                working = children(pid) if processes > 1 else [pid]
                most = max([most, *map(own_bytes, working)])
            answer = self._ours.recv()
        except (EOFError, OSError):
            self._process.join(timeout=10)
            raise InputError(
                f"bench: the process of {self._name!r} ended ({self._process.exitcode}): is there enough memory?"
            ) from None
        kind, content = answer
        if kind == "speed":
            return content, most
        if kind == "input":
            raise InputError(content)
        raise RuntimeError(f"{self._name}: {content}")


def _serve(connection: Connection[Any, Any], way: Way) -> None:
    # In a spawned process the default is to spawn. This restores the system's default, as a way has it elsewhere.
    multiprocessing.set_start_method(None, force=True)
    while True:
        try:
            processes = connection.recv()
        except (EOFError, OSError):
            return
        answer: tuple[str, Speed | str]
        try:
            answer = ("speed", way.measure(processes))
        except InputError as error:
            answer = ("input", str(error))
        except Exception:  # Every error is reported by the main process.
            answer = ("defect", traceback.format_exc())
        connection.send(answer)
