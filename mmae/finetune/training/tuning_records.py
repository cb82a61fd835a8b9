"""What log.jsonl and people are told of a fine-tuning: how it starts, its steps, validations and saves."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from mmae.engine.telemetry.run_log import RunLog
from mmae.engine.telemetry.step_records import peak_memory
from mmae.engine.telemetry.step_timer import StepTimer
from mmae.finetune.scoring.task_scores import MAIN, TaskScores
from mmae.terminal.plurals import counted

if TYPE_CHECKING:
    import torch

    from mmae.finetune.start.tuning_spec import TuningSpec
    from mmae.finetune.training.tuning_step import StepResult

Record = dict[str, Any]


class TuningObserver:
    """Makes the records of steps. Steps are counted from 1.

    Attributes:
        clock: measures waiting for data, and pauses.
        step: the last one.
    """

    def __init__(self, spec: TuningSpec, log: RunLog, device: torch.device, step: int, per_epoch: int) -> None:
        self.clock, self.step = StepTimer(step), step
        self._spec, self._log, self._device, self._per_epoch = spec, log, device, per_epoch
        self._losses: list[float] = []

    @property
    def records(self) -> TuningObserver:
        """Itself: no record waits to be written."""
        return self

    def arrived(self) -> Iterable[Record]:
        """Nothing: a record is written with its step."""
        return ()

    def close(self) -> None:
        """Nothing is open."""

    def made(self, step: int, result: StepResult, lr: float, skipped: int, wanted: bool) -> None:
        """Count a step, and write its record if it is wanted.

        Args:
            lr: the head's learning rate in this step.
            skipped: steps of the run that changed nothing.
        """
        self.step = step
        if result.loss is not None:
            self._losses.append(result.loss)
        if not wanted:
            return
        lap, name, batch = self.clock.lap(step), self._spec.labelled.task.name, self._spec.config.train.global_batch
        rate = lap.steps * batch / lap.seconds
        self._log.write(
            "train",
            step=step,
            epoch=(step - 1) // self._per_epoch,
            tiles_seen=step * batch,
            loss=result.loss,
            loss_mean=sum(self._losses) / len(self._losses) if self._losses else None,
            losses={name: result.loss},
            scored={name: result.labels},
            lr=lr,
            grad_norm=result.grad_norm,
            skipped=not result.updated,
            skipped_steps=skipped,
            tiles_per_second=rate,
            step_seconds=lap.seconds / lap.steps,
            data_wait_share=lap.waiting / lap.seconds,
            save_seconds=lap.saves,
            val_seconds=lap.validations,
            peak_memory_gb=peak_memory(self._device) / 1e9,
        )
        self._log.progress(step, result.loss, rate)
        self._losses.clear()


def announce(
    log: RunLog, spec: TuningSpec, lines: Iterable[str], resumed: str, step: int, parameters: tuple[int, int]
) -> None:
    """Say and record how this start begins.

    Args:
        lines: what the model sees and what was found, for people.
        resumed: the checkpoint that this start goes on from; empty for a new run.
        parameters: all of the model's, and those that learn.
    """
    for key, (old, new) in spec.changes.items():
        log.say(f"resume: {key} {old} -> {new}")
    split, train, labelled = spec.split, spec.config.train, spec.labelled
    begin = f"resuming at step {step} from {resumed}" if resumed else "starting"
    log.tell(
        "",
        f"{begin}: {labelled.task.kind} of {labelled.task.name}, {counted(split.world, 'rank')} x "
        f"{counted(split.micro, 'tile')} x {split.accumulation} accumulation, {train.precision}, "
        f"{parameters[1]:,} of {parameters[0]:,} parameters learn",
    )
    if not resumed:
        for line in lines:
            log.say(f"  {line}")
    splits = labelled.splits
    log.write(
        "resume" if resumed else "start",
        step=step,
        task=labelled.task.name,
        task_kind=labelled.task.kind,
        validation_tiles=len(splits.val),
        training_tiles=len(splits.train),
        test_tiles=len(splits.test),
        changes={key: list(values) for key, values in spec.changes.items()},
        world=split.world,
        micro_batch=split.micro,
        accumulation=split.accumulation,
        precision=train.precision,
        max_steps=train.max_steps,
        stop=spec.stop,
        log_every=spec.config.log.every,
        checkpoint_every=spec.config.checkpoint.every,
        host=socket.gethostname(),
        pid=os.getpid(),
        **log.about_wandb,
    )


def validation(
    log: RunLog, step: int, name: str, kind: str, loss: float | None, found: TaskScores, best: bool, seconds: float
) -> None:
    """Record a validation, and say its score."""
    main = MAIN[kind]
    score = found.scores[main]
    said = "no known label" if score is None else f"{main} {score:.4g}"
    log.say(f"step {step}: validation {said}{', the best so far' if best else ''}")
    log.write(
        "val",
        step=step,
        losses={name: loss},
        scored={name: found.known},
        lost={},
        scores=found.scores,
        by_class=found.by_class,
        best=best,
        seconds=seconds,
    )
