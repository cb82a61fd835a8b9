"""Messages and records about a run: its start, its steps, validations and saves, and its end."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

import torch.distributed as dist

from mmae.config.batch_split import why_smaller
from mmae.config.deepspeed import adds_up_in_of, why_rounded
from mmae.data.checks.split_check import check_splits
from mmae.disk.json_text import standard_json
from mmae.engine.checkpoint.background_save import SaveResult
from mmae.engine.checkpoint.load import LoadResult, ResumePoint
from mmae.engine.engine_protocol import Engine
from mmae.engine.telemetry.run_log import RunLog, record_save
from mmae.engine.telemetry.step_records import Record
from mmae.engine.val_scores import ValScores
from mmae.engine.validate import Validation
from mmae.model.counts.named_parts import split_sizes, told
from mmae.run.log_reader import END
from mmae.run.parent import read_parent
from mmae.run.spec import RunSpec
from mmae.run.status import averaged_loss, named_scores, read_scores, total_loss
from mmae.terminal.looks import TIE
from mmae.terminal.plurals import counted

Losses = dict[str, float | None]
"""Losses by output; None where no tile could be scored."""


def announce(
    log: RunLog,
    spec: RunSpec,
    engine: Engine,
    found: ResumePoint | None,
    loaded: LoadResult,
    device_peak: float | None,
    average_restarted: bool = False,
) -> None:
    """Say and record how this start begins, and every setting that it changes.

    Args:
        average_restarted: the checkpoint has no averaged weights, and the recipe asks for them.
    """
    for key, (old, new) in spec.changes.items():
        log.say(f"resume: {key} {old} -> {new}")
    if loaded.converted:
        log.say(f"resume: converted the checkpoint ({loaded.converted})")
    for line in loaded.reapplied:
        log.say(f"resume: the optimiser takes the recipe's value: {line}")
    if average_restarted:
        log.say("resume: the checkpoint has no averaged weights: the average (train.ema) begins at its weights")
    if len(spec.tiles.sets) > 1 and not spec.config.data.band_stats:
        log.say(f"band statistics: those of the mixture of shard sets, in {spec.folder.band_stats_file}")
    for line in told(spec.config):
        log.say(line)
    split = spec.split
    begin = f"resuming at step {found.state.step} from {found.path}" if found else "starting"
    log.tell(
        "",
        f"{_in_one_line(begin)}: {spec.config.model.size} MultiMAE, {counted(split.world, 'rank')} x "
        f"{counted(split.micro, 'tile')} x {split.accumulation} accumulation, ZeRO-{spec.zero_stage}, "
        f"{spec.precision}, gradient clipping {engine.gradient_clipping()}",
    )
    if derived := why_smaller(split, spec.config.train.micro_batch):
        log.say(derived)
    if rounded := why_rounded(adds_up_in_of(spec.ds_config), split.accumulation):
        log.say(f"WARNING: {rounded}")
    checked = check_splits(spec.tiles) if dist.get_rank() == 0 else None
    for line in checked.lines() if checked else ():
        log.say(line)
    log.write(
        "resume" if found else "start",
        validation_tiles=sum(
            shard.tiles for each in spec.tiles.sets for shard in each.index.shards if shard.split == "val"
        ),
        validation_tiles_trained_on=checked.leaked.tiles if checked and checked.leaked else 0,
        step=found.state.step if found else 0,
        converted=loaded.converted,
        changes={key: list(values) for key, values in spec.changes.items()},
        reapplied=loaded.reapplied,
        average_restarted=average_restarted,
        frozen_parameters=sum(split_sizes(spec.config)[1].values()),
        notes=found.notes if found else (),
        parent=None if (parent := read_parent(spec.folder.path)) is None else str(parent),
        world=split.world,
        micro_batch=split.micro,
        accumulation=split.accumulation,
        zero_stage=spec.zero_stage,
        precision=spec.precision,
        gradient_clipping=engine.gradient_clipping(),
        steps_per_epoch=spec.order.steps_per_epoch,
        max_steps=spec.config.train.max_steps,
        stop=spec.stop,
        log_every=spec.config.log.every,
        checkpoint_every=spec.config.checkpoint.every,
        keep_best=spec.config.checkpoint.keep_best,
        eval_protocol=spec.config.eval.protocol,
        device_peak_tflops=None if device_peak is None else device_peak / 1e12,
        host=socket.gethostname(),
        pid=os.getpid(),
        **log.about_wandb,
    )


def train_records(log: RunLog, records: Iterable[Record]) -> Losses:
    """Record steps and show them. Returns the losses of the last one; empty where there was none."""
    losses: Losses = {}
    for record in records:
        losses = record["losses"]
        log.write("train", **record)
        log.progress(record["step"], record["loss"], record["tiles_per_second"])
    return losses


def validation(log: RunLog, step: int, found: Validation, seconds: float, averaged: Validation | None = None) -> None:
    """Record a validation and say in a line what people read of it. A loss that is not finite is a warning.

    Args:
        averaged: that of the averaged weights, where there are any.
    """
    for name, lost in found.lost.items():
        log.say(
            f"WARNING: step {step}: the validation loss of {name} is not finite on {lost} of {found.scored[name]} "
            "tiles: see what they hold (quarantine/ names them)"
        )
    record = _val_record(found)
    if found.losses:
        said = (f"validation loss {total_loss(record)}", read_scores(record))
        log.tell(f"step {step}: ", "; ".join(filter(None, said)))
    if averaged is None:
        log.write("val", step=step, **record, seconds=seconds)
        return
    ema = _val_record(averaged)
    log.say(f"step {step}: validation of the averaged weights: {averaged_loss(record, ema)}")
    log.write("val", step=step, **record, ema=ema, seconds=seconds)


def _val_record(found: Validation) -> Record:
    return {"losses": found.losses, "scored": found.scored, "lost": found.lost, **_read(found.read)}


def _in_one_line(text: str) -> str:
    """A text that is searched for and copied, as `tell` does not break it."""
    return text.replace(" ", TIE)


def _read(scores: ValScores) -> Record:
    return {"iou": scores.mean_iou, "iou_of_classes": scores.iou, "rmse": scores.rmse, "units": scores.units}


class ProbeScores(Protocol):
    """Scores of probes by task, None where a probe gave no number, and why others failed."""

    @property
    def scores(self) -> Mapping[str, float | None]: ...

    @property
    def failed(self) -> Mapping[str, str]: ...


def probes(log: RunLog, step: int, found: ProbeScores, seconds: float, averaged: ProbeScores | None = None) -> None:
    """Record the scores of probes and say them in a line. A probe that failed is a warning.

    Args:
        averaged: those of the averaged weights, where they are probed.
    """
    record: Record = {}
    for of, each in (("", found), (" of the averaged weights", averaged)):
        if each is None:
            continue
        for task, reason in each.failed.items():
            log.say(f"WARNING: step {step}: the probe{of} of {task} failed ({reason}); training goes on")
        if each.scores:
            log.tell(f"step {step}: probes{of}: ", named_scores(each.scores))
        scores = {"scores": dict(each.scores), "failed": dict(each.failed)}
        record |= {"ema": scores} if of else scores
    log.write("eval", step=step, **record, seconds=seconds)


def lost_numbers(log: RunLog, step: int, line: str) -> None:
    """Record and say that the run ends because of losses or gradients that are not finite."""
    log.say_error(f"lost numbers: {line}")
    log.write(END, step=step, why="lost numbers")


def save_records(log: RunLog, ended: Iterable[SaveResult]) -> None:
    """Record how saves ended."""
    for saved in ended:
        record_save(log, saved)


def finished(log: RunLog, spec: RunSpec, step: int, checkpoint: Path | None, validated: Validation | None) -> None:
    """Say how a training ended, for people: the line of JSON is for programs.

    Of one that was asked to stop before its last step, `how_to_go_on` says more.
    """
    if step < spec.stop:
        return
    parts = [f"step {step} of {spec.config.train.max_steps}", f"{step * spec.config.train.global_batch:,} tiles"]
    if validated is not None and validated.losses:
        record = {"losses": validated.losses, "scored": validated.scored, "lost": validated.lost}
        parts.append(f"validation loss {total_loss(record)}")
    if checkpoint is not None:
        parts.append(f"saved in {checkpoint}")
    how = "finished" if step == spec.config.train.max_steps else "stopped as asked"
    log.tell("", f"{how}: {', '.join(parts)}")


def closing_line(spec: RunSpec, step: int, checkpoint: Path | None, losses: Losses, val_losses: Losses) -> str:
    """The line of JSON that a training ends with."""
    return json.dumps(
        standard_json(
            {
                "run_dir": str(spec.folder.path),
                "step": step,
                "tiles_seen": step * spec.config.train.global_batch,
                "losses": losses,
                "val_losses": val_losses,
                "checkpoint": None if checkpoint is None else str(checkpoint),
            }
        )
    )
