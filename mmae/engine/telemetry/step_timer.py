"""Splits a rank's time between two records into training, waiting for data, and pauses."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from mmae.types import Batch

PauseKind = Literal["save", "val", "eval"]


@dataclass
class Pause:
    """How long a pause took; set when it is over."""

    seconds: float = 0.0


@dataclass(frozen=True)
class Lap:
    """The steps since the last lap.

    Attributes:
        steps: how many.
        seconds: their duration, without pauses.
        waiting: seconds in them that this rank waited for data.
        saves: seconds that training paused for checkpoints.
        validations: seconds that training paused for validations.
        evaluations: seconds that training paused for probes.
    """

    steps: int
    seconds: float
    waiting: float
    saves: float
    validations: float
    evaluations: float


class StepTimer:
    """How fast steps go, and the time spent waiting for their data."""

    def __init__(self, step: int) -> None:
        self._start(step)

    @property
    def step(self) -> int:
        """The step of the last lap."""
        return self._since_step

    def take(self, batches: Iterator[Batch], count: int) -> list[Batch]:
        """Take the next `count` micro-batches, and count the wait for them."""
        began = time.monotonic()
        taken = [next(batches) for _ in range(count)]
        self._waited += time.monotonic() - began
        return taken

    @contextmanager
    def paused(self, kind: PauseKind) -> Iterator[Pause]:
        """A context around a pause of training."""
        pause = Pause()
        began = time.monotonic()
        yield pause
        pause.seconds = time.monotonic() - began
        self._paused[kind] += pause.seconds

    def lap(self, step: int) -> Lap:
        """What was counted since the last lap. Begins a new lap."""
        paused = self._paused
        seconds = max(time.monotonic() - self._since - sum(paused.values()), 1e-9)
        lap = Lap(step - self._since_step, seconds, self._waited, paused["save"], paused["val"], paused["eval"])
        self._start(step)
        return lap

    def _start(self, step: int) -> None:
        self._since_step, self._since = step, time.monotonic()
        self._waited = 0.0
        self._paused: dict[PauseKind, float] = {"save": 0.0, "val": 0.0, "eval": 0.0}
