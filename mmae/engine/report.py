"""What a run says of itself: the records of log.jsonl, the opening line and the closing one."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmae.engine.checkpoint import Found, difference
from mmae.engine.damage import DamageLog
from mmae.engine.logging import RunLog, standard
from mmae.engine.plan import Plan
from mmae.engine.step import StepStats
from mmae.types import Batch


@dataclass
class Pause:
    """How long a pause took, known when it is over."""

    seconds: float = 0.0


class Clock:
    """How fast tiles go through, and the share of time spent waiting for them."""

    def __init__(self, step: int) -> None:
        self._start(step)

    def take(self, batches: Iterator[Batch], count: int) -> list[Batch]:
        """The next `count` micro-batches; the wait for them is counted."""
        began = time.monotonic()
        taken = [next(batches) for _ in range(count)]
        self._waited += time.monotonic() - began
        return taken

    @contextmanager
    def paused(self) -> Iterator[Pause]:
        """Time that is not training, such as a save."""
        pause = Pause()
        began = time.monotonic()
        yield pause
        pause.seconds = time.monotonic() - began
        self._paused += pause.seconds

    def lap(self, step: int, global_batch: int) -> tuple[float, float]:
        """Tiles a second over all ranks, and the share of time that this rank waited for data, since the last lap."""
        seconds = max(time.monotonic() - self._since - self._paused, 1e-9)
        result = (step - self._since_step) * global_batch / seconds, self._waited / seconds
        self._start(step)
        return result

    def _start(self, step: int) -> None:
        self._since_step, self._since = step, time.monotonic()
        self._waited = self._paused = 0.0


def step_record(
    step: int, stats: StepStats, plan: Plan, engine: Any, clock: Clock, damage: DamageLog
) -> dict[str, Any]:
    """The record of the step that has just been done. Reads device values, so it waits for the device."""
    config = plan.config
    rate, waiting = clock.lap(step, config.train.global_batch)
    grad_norm = engine.get_global_grad_norm()
    domains, outputs = config.model.in_domains, config.model.outputs
    return {
        "step": step,
        "epoch": plan.order.epoch(step - 1),
        "tiles_seen": step * config.train.global_batch,
        "loss": float(stats.loss),
        "losses": dict(zip(outputs, stats.loss_O.tolist(), strict=True)),
        "scored": dict(zip(outputs, stats.count_O.tolist(), strict=True)),
        "hidden_share": dict(zip(domains, stats.hidden_M.tolist(), strict=True)),
        "valid_share": dict(zip(domains, stats.valid_M.tolist(), strict=True)),
        "filled_tokens": int(stats.filled),
        "damaged_tiles": damage.lap(),
        "lr": engine.get_lr()[0],
        "grad_norm": None if grad_norm is None else float(grad_norm),
        "tiles_per_second": rate,
        "data_wait_share": waiting,
    }


def announce(log: RunLog, plan: Plan, engine: Any, found: Found | None) -> None:
    """Say and record how this start begins, and every value that it changes."""
    for key, (old, new) in plan.changes.items():
        log.say(f"resume: {key} {old} -> {new}")
    converted = difference(plan, found.state) if found else ""
    if converted:
        log.say(f"resume: converted the checkpoint ({converted})")
    split = plan.split
    begin = f"resuming at step {found.state.step} from {found.path}" if found else "starting"
    log.say(
        f"{begin}: {plan.config.model.size} MultiMAE, {split.world} ranks x {split.micro} tiles x "
        f"{split.accumulation} accumulation, ZeRO-{plan.zero_stage}, {plan.precision}, "
        f"gradient clipping {engine.gradient_clipping()}"
    )
    log.write(
        "resume" if found else "start",
        step=found.state.step if found else 0,
        converted=converted,
        changes={key: list(values) for key, values in plan.changes.items()},
        world=split.world,
        micro_batch=split.micro,
        accumulation=split.accumulation,
        zero_stage=plan.zero_stage,
        precision=plan.precision,
        gradient_clipping=engine.gradient_clipping(),
        steps_per_epoch=plan.order.steps_per_epoch,
    )


def closing_line(
    plan: Plan, step: int, checkpoint: Path | None, losses: dict[str, float], val_losses: dict[str, float]
) -> str:
    """The JSON line that a training ends with."""
    return json.dumps(
        standard(
            {
                "run_dir": str(plan.folder.path),
                "step": step,
                "tiles_seen": step * plan.config.train.global_batch,
                "losses": losses,
                "val_losses": val_losses,
                "checkpoint": str(checkpoint),
            }
        )
    )
