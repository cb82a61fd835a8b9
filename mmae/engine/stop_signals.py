"""When to stop, and how all ranks stop at the same step, with a checkpoint and status 0.

A rank with a reason to stop adds it to a reduction that every step makes anyway (`step.optimiser_step`). All ranks read
the sum at the same later step (`nonfinite`). A signal therefore never interrupts anything: a running save is finished.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Final

import torch
import torch.distributed as dist
from torch import Tensor

from mmae.distributed.process_group import is_local_main
from mmae.engine.deferred import DEFERRED_STEPS
from mmae.processes import started
from mmae.run.layout import STOP
from mmae.run.resume_command import TRAIN, go_on_command
from mmae.terminal.message import fresh_line

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
REASONS: Final = (*(number.name for number in SIGNALS), "train.max_hours", "the end of the Slurm job", "the file stop")
SLURM_RESERVE: Final = 120.0
"""Seconds reserved for what a job does after its last save."""

Clock = Callable[[], float]


class Stop:
    """This rank's reasons to stop. A context: signals are caught within it, and only there.

    Args:
        folder: the run's folder. Rank 0 looks there for a file `stop`.
        max_hours: how long this start may train; None: without a limit.
    """

    def __init__(
        self,
        folder: Path,
        rank: int,
        max_hours: float | None,
        *,
        environment: Mapping[str, str] = os.environ,
        clock: Clock = time.monotonic,
        now: Clock = time.time,
    ) -> None:
        self._file = folder / STOP
        self._rank = rank
        self._clock, self._now = clock, now
        self._began = clock() - _seconds_since_start()
        self._max_seconds = None if max_hours is None else max_hours * 3600
        self._job_end = _slurm_end(environment)
        self._caught: list[str] = []
        self._reasons: set[str] = set()
        self._looked = self._called = -float("inf")
        self._longest_save = self._longest_step = 0.0
        self._wanted_R: Tensor | None = None
        self._before: dict[int, Any] = {}
        self.doing = "finishing the step"
        """What the training does now, for the answer to a signal."""

    def wanted(self, device: torch.device) -> Tensor:
        """A 1 for each of `REASONS` that this rank has, float32 on the device, else 0. Call it once a step."""
        reasons = self._look()
        # A tensor is made only for a new reason: a normal step copies nothing and does not wait for the device.
        if self._wanted_R is None or not reasons <= self._reasons:
            self._reasons |= reasons
            self._wanted_R = torch.tensor([float(name in self._reasons) for name in REASONS], device=device)
        return self._wanted_R

    def agree_now(self, device: torch.device) -> tuple[str, ...]:
        """All ranks' reasons to stop before the first step. Collective, and waits for the device."""
        wanted_R = self.wanted(device).clone()
        dist.all_reduce(wanted_R)
        return names(wanted_R.tolist())

    def saved(self, seconds: float) -> None:
        """Note how long a save took: the next one must fit before the job's end."""
        self._longest_save = max(self._longest_save, seconds)

    def obeyed(self, reasons: Sequence[str]) -> None:
        """Remove the file `stop` when the run has stopped because of it. Otherwise the next start would stop too."""
        if self._rank == 0 and "the file stop" in reasons:
            self._file.unlink(missing_ok=True)

    def _look(self) -> set[str]:
        found = set(self._caught)
        now = self._clock()
        if self._called > 0:
            self._longest_step = max(self._longest_step, now - self._called)
        self._called = now
        if self._max_seconds is not None and now - self._began >= self._max_seconds:
            found.add("train.max_hours")
        margin = SLURM_RESERVE + self._longest_save + (DEFERRED_STEPS + 1) * self._longest_step
        if self._job_end is not None and self._now() >= self._job_end - margin:
            found.add("the end of the Slurm job")
        if self._rank == 0 and now - self._looked >= 1:
            self._looked = now
            if os.path.lexists(self._file):
                found.add("the file stop")
        return found

    def __enter__(self) -> Stop:
        for number in SIGNALS:
            # nohup and background shells start a process with a signal ignored: it stays ignored.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._catch)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _catch(self, number: int, _frame: FrameType | None) -> None:
        again = bool(self._caught)
        self._caught.append(signal.Signals(number).name)
        if not is_local_main():
            return
        said = (
            f"{self.doing}, then the run ends; to end it without a save: kill -9 {os.getpid()}"
            if again
            else f"stopping: {self.doing}, saving, then the run ends"
        )
        # Not `print`: a signal may interrupt a `print`.
        os.write(2, f"{fresh_line()}mmae: {signal.Signals(number).name}: {said}\n".encode())


def names(wanted_R: Sequence[float]) -> tuple[str, ...]:
    """The reasons that any rank had."""
    return tuple(name for name, ranks in zip(REASONS, wanted_R, strict=False) if ranks)


def how_to_go_on(
    step: int,
    checkpoint: Path | None,
    reasons: Sequence[str],
    world: int,
    own: Path | None = None,
    module: str = TRAIN,
) -> str:
    """One line: where a run stopped, and the command that goes on from there.

    Args:
        own: the run's folder of checkpoints. A checkpoint elsewhere must be named again. None: the checkpoint is there.
        module: what launchers start.
    """
    where = f"saved in {checkpoint}" if checkpoint else "there was nothing to save"
    elsewhere = checkpoint is not None and own is not None and checkpoint.parent.resolve() != own.resolve()
    command = go_on_command(world, elsewhere, module)
    return f"stopped at step {step} ({' and '.join(reasons)}), {where}; go on with: {command}"


def _seconds_since_start() -> float:
    """How long this process has lived; 0 where the system does not say."""
    try:
        ticks = int(started(os.getpid()))
        up = float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 0.0
    return max(0.0, up - ticks / os.sysconf("SC_CLK_TCK"))


def _slurm_end(environment: Mapping[str, str]) -> float | None:
    """When Slurm will end this job, seconds since 1970; None outside a job, or in one without an end."""
    try:
        return int(environment["SLURM_JOB_END_TIME"])
    except (KeyError, ValueError):
        return None
