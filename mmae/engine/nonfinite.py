"""Non-finite handling: every rank skips the update of a bad step, names its tiles, and too many bad steps end the run.

A step is bad if its loss or gradient is not finite or too large. All ranks read this `DEFERRED_STEPS` steps later
(`deferred`), at the same step.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import torch
from torch import Tensor

from mmae.engine.deferred import DeferredValues, Values
from mmae.engine.engine_protocol import Engine
from mmae.engine.quarantine import Quarantine, Suspects
from mmae.engine.skip_update import Skips
from mmae.engine.step import StepStats
from mmae.engine.validate import Validation
from mmae.run.spec import RunSpec
from mmae.terminal.plurals import counted
from mmae.types import Batch


@dataclass(frozen=True)
class Agreed:
    """What every rank knows at the same step.

    Attributes:
        wanted_R: how many ranks had each reason to stop, in any of the steps read.
        bad: how many steps in a row were bad, up to the newest one read.
    """

    wanted_R: tuple[float, ...]
    bad: int


@dataclass(frozen=True)
class _Context:
    """What the host knows of a step when the step is queued.

    Attributes:
        counted: DeepSpeed skipped the step itself, and counts it.
        norm: the gradient's norm, where DeepSpeed has it on the host.
    """

    step: int
    suspects: Suspects
    counted: bool
    norm: float | None


class NonFiniteHandler:
    """Watches an engine's steps. Create it after the weights are loaded.

    Attributes:
        skipped: number of skipped steps of the run, a scalar on the device.
    """

    def __init__(self, engine: Engine, spec: RunSpec, rank: int) -> None:
        self._skips = Skips(engine, spec.config.train.skip_grad_norm)
        self._engine = engine
        self._quarantine = Quarantine(spec, rank)
        self._half = spec.precision == "fp16"
        self._deferred: DeferredValues[_Context] = DeferredValues()
        self._bad = 0
        # A checkpoint brings DeepSpeed's count.
        self.skipped = torch.full((), float(engine.skipped_steps), device=engine.device)

    def after_step(self, step: int, stats: StepStats, batches: Sequence[Batch]) -> Tensor:
        """Take note of a step that has just been queued. Does not wait for the device.

        Args:
            step: its number, counted from 1.

        Returns:
            1 where its update was skipped, else 0; a scalar on the device.
        """
        skipped = self._skips.after_step()
        self.skipped = self.skipped + skipped
        norm = self._engine.get_global_grad_norm()
        on_device = norm if isinstance(norm, Tensor) and norm.device == skipped.device else None
        numbers = {
            "skipped": skipped,
            "norm": skipped.new_zeros(1) if on_device is None else on_device,
            "losses": torch.cat([stats.loss.reshape(1), stats.loss_O]),
            "wanted": stats.wanted_R,
        }
        context = _Context(
            step,
            Suspects(batches, stats.finite_OB),
            counted=not self._engine.was_step_applied(),
            norm=None if on_device is not None else math.inf if norm is None else float(norm),
        )
        self._deferred.add(step, context, numbers)
        return skipped

    def agreed(self, step: int, everything: bool) -> Agreed:
        """What all ranks know after a step: of the steps that are old enough to be read, or of all.

        A checkpoint needs all steps: it holds the count of skipped steps, and a resume does not see their tiles again.
        One also follows when a rank wants to stop.

        Args:
            everything: read all steps, which waits for the device.
        """
        found = self._read(self._deferred.due(step))
        if everything or any(found.wanted_R):
            rest = self._read(self._deferred.drain())
            found = Agreed(_added(found.wanted_R, rest.wanted_R), rest.bad)
        return found

    def validated(self, step: int, found: Validation) -> None:
        """Name the tiles of a validation that had a loss that is not finite."""
        self._quarantine.write_validation(step, found.lost_rows)

    def despair(self, step: int, saved: Path | None) -> str:
        """The line that a run ends with after too many bad steps in a row."""
        return (
            f"step {step}: {counted(self._bad, 'step')} in a row had a loss or gradient that is not finite or too "
            f"large; their tiles are named in {self._quarantine.folder}, no update was made, and {_before(saved)}: "
            "lower train.blr, or see what the tiles hold"
        )

    def divergence(self, step: int, outputs: Sequence[str], saved: Path | None) -> str:
        """The line that a run ends with after a validation in which some outputs had no finite loss."""
        return (
            f"step {step}: the validation loss of {', '.join(outputs)} is not finite on any tile: the weights have "
            f"diverged and were not saved, and {_before(saved)}: lower train.blr"
        )

    def _read(self, steps: Iterable[tuple[_Context, Values]]) -> Agreed:
        wanted: tuple[float, ...] = ()
        for about, numbers in steps:
            wanted = _added(wanted, numbers["wanted"])
            skipped = bool(numbers["skipped"][0])
            if skipped and not about.counted:
                self._engine.skipped_steps += 1
            norm = numbers["norm"][0] if about.norm is None else about.norm
            reason = self._reason(skipped, norm, numbers["losses"])
            self._bad = self._bad + 1 if reason else 0
            if reason:
                self._quarantine.write(about.step, reason, about.suspects)
        return Agreed(wanted, self._bad)

    def _reason(self, skipped: bool, norm: float, losses: list[float]) -> str | None:
        if not all(map(math.isfinite, losses)):
            return "loss"
        if not skipped:
            return None
        if math.isfinite(norm):
            return "norm"
        # In fp16 overflowing gradients are normal: DeepSpeed finds the loss scale by them.
        return None if self._half else "gradient"


def _added(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, ...]:
    return tuple(a + b for a, b in zip_longest(ours, theirs, fillvalue=0.0))


def _before(saved: Path | None) -> str:
    return f"the last checkpoint ({saved}) is untouched" if saved else "there is no checkpoint yet"
