"""The state of a run, read from its folder alone, also on a machine other than the one that trains."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mmae.disk.regular_file import read_regular, read_regular_text
from mmae.errors import InputError
from mmae.processes import started
from mmae.run.best_checkpoint import Best, best_checkpoint
from mmae.run.layout import CHECKPOINT_GLOB, CHECKPOINTS, DAMAGED_TILES, LOCK, LOG, newest_first
from mmae.run.locking.lock_owner import parse_holder
from mmae.run.log_reader import BEGINS, END, LogRecords, Record, step_of_record, time_of_record
from mmae.run.parent import read_parent
from mmae.terminal.plurals import counted

COURSE: Final = 200
"""Number of train records whose losses are shown as a course."""
RECENT: Final = 20
"""Number of train records from which speed and time left are computed."""
SILENT_SECONDS: Final = 120.0
SLOW_RANK: Final = 1.25
MUCH_WAITING: Final = 0.1
UNWELL: Final = frozenset({"died", "failed", "silent"})


@dataclass(frozen=True)
class RunState:
    """The report of `mmae status`.

    Attributes:
        state: starting, training, saving, finished, stopped; failed (the log has the reason), died (the process is
            gone and wrote no end), or silent (no record for long, and this machine cannot see the process).
        step: the last step in the log.
        stop: the step at which this start stops; `max_steps` is the schedule's length.
        train: the last record of a step; None before the first.
        val: the last validation; None before the first, and for runs without validation tiles.
        probes: the last record of probes; None before the first.
        validation_tiles: number of tiles in a validation; None if the log does not contain it.
        seconds_left: until `stop`, with pauses, at the recent speed.
        checkpoint: the newest whole checkpoint.
        checkpoint_age: its age in seconds.
        parent: the checkpoint of another run that this run went on from, in words; None if it began anew.
        keep_best: the score by which the best checkpoint is kept; None if none is.
        best: that checkpoint; None if none has such a score. `best_score` is its score.
        damaged_tiles: number of tiles in damaged_rank*.jsonl.
        silence: seconds since the last record.
        loss_course: mean losses of the newest records of this start, oldest first.
    """

    run: str
    state: str
    why: str
    step: int
    stop: int | None
    max_steps: int | None
    train: Record | None
    val: Record | None
    probes: Record | None
    validation_tiles: int | None
    seconds_left: float | None
    checkpoint: str | None
    checkpoint_age: float | None
    parent: str | None
    keep_best: str | None
    best: str | None
    best_score: float | None
    damaged_tiles: int
    silence: float
    host: str | None
    pid: int | None
    warnings: list[str] = field(default_factory=list)
    loss_course: list[float | None] = field(default_factory=list)


def read_run(folder: Path) -> RunState:
    """Read the state of a run from its folder.

    Raises:
        InputError: the folder holds no run, or the run has not written a record yet.
    """
    path = folder / LOG
    if not path.is_file():
        raise InputError(f"{folder}: no run lives here (no {LOG}): give the run.dir of a training")
    log = LogRecords(path)
    begin = log.last(*BEGINS)
    if begin is None:
        raise InputError(f"{path}: holds no record of a start yet: ask again in a moment")
    recent = log.recent("train", RECENT, since=BEGINS)
    last = log.last("train", "val", "eval", "save", *BEGINS, END) or begin
    train = recent[-1] if recent else log.last("train")
    silence = max(0.0, time.time() - time_of_record(last))
    host, pid, began = _process(folder, begin)
    state, why = _state(folder, begin, last, recent, silence, alive(host, pid, began))
    step = step_of_record(last)
    stop = begin.get("stop")
    checkpoint, age = _newest_checkpoint(folder / CHECKPOINTS)
    best = _best(folder / CHECKPOINTS, begin)
    found = RunState(
        run=str(folder),
        state=state,
        why=why,
        step=step,
        stop=stop,
        max_steps=begin.get("max_steps"),
        train=train,
        val=log.last("val"),
        probes=log.last("eval"),
        validation_tiles=begin.get("validation_tiles"),
        seconds_left=_seconds_left(recent, step, stop) if state in {"training", "saving"} else None,
        checkpoint=checkpoint,
        checkpoint_age=age,
        parent=None if (parent := read_parent(folder)) is None else str(parent),
        keep_best=begin.get("keep_best"),
        best=None if best is None else str(best.path),
        best_score=None if best is None else best.value,
        damaged_tiles=sum(_lines(each) for each in folder.glob(DAMAGED_TILES)),
        silence=silence,
        host=host,
        pid=pid,
        loss_course=[record.get("loss_mean", record.get("loss")) for record in log.recent("train", COURSE, BEGINS)],
    )
    found.warnings.extend(_warnings(found, begin, recent, log.torn))
    return found


def alive(host: str | None, pid: int | None, began: str | None) -> bool | None:
    """Whether a process lives; None if this machine cannot know.

    Args:
        began: its start (`processes.started`), if known: a later process may have the same number.
    """
    if pid is None or host != socket.gethostname():
        return None
    now = started(pid)
    return bool(now) and began in {None, now}


def _process(folder: Path, begin: Record) -> tuple[str | None, int | None, str | None]:
    """Host, pid and start of rank 0: from the run's lock, or from the log's record if there is no lock."""
    with suppress(OSError, ValueError):
        if holder := parse_holder(read_regular_text(folder / LOCK)):
            return holder.host, holder.pid, holder.started
    return begin.get("host"), begin.get("pid"), None


def _state(
    folder: Path, begin: Record, last: Record, recent: list[Record], silence: float, living: bool | None
) -> tuple[str, str]:
    if last["kind"] == END:
        why = last.get("why") or "stopped"
        state = why if why in {"finished", "stopped"} else "failed"
        return state, str(last.get("error") or " and ".join(last.get("reasons") or ()) or why)
    if living is False:
        return "died", "its process is gone, and it wrote no end"
    pace = max((float(record.get("step_seconds") or 0) for record in recent), default=60.0)
    pauses = [float(record.get(f"{kind}_seconds") or 0) for record in recent for kind in ("save", "val", "eval")]
    patience = max(SILENT_SECONDS, 10 * pace * int(begin.get("log_every") or 10), 3 * max(pauses, default=0.0))
    if silence > patience:
        return "silent", f"no record for {silence:.0f} s"
    if _is_saving(folder / CHECKPOINTS):
        return "saving", ""
    return ("training" if recent else "starting"), ""


def _is_saving(checkpoints: Path) -> bool:
    return any(checkpoints.glob(f".*{CHECKPOINT_GLOB}"))


def _newest_checkpoint(checkpoints: Path) -> tuple[str | None, float | None]:
    newest: Path | None = None
    # Another user's folder may be closed to this one, and a checkpoint may be replaced just now.
    with suppress(OSError):
        for newest in newest_first(checkpoints)[:1]:
            return str(newest), max(0.0, time.time() - newest.stat().st_mtime)
    return None if newest is None else str(newest), None


def _best(checkpoints: Path, begin: Record) -> Best | None:
    if not begin.get("keep_best"):
        return None
    with suppress(OSError):
        return best_checkpoint(checkpoints, str(begin["keep_best"]), str(begin.get("eval_protocol")))
    return None


def _lines(path: Path) -> int:
    return read_regular(path).count(b"\n")


def _seconds_left(recent: list[Record], step: int, stop: int | None) -> float | None:
    if stop is None or not recent:
        return None
    first, last = recent[0], recent[-1]
    steps = step_of_record(last) - step_of_record(first)
    pace = (time_of_record(last) - time_of_record(first)) / steps if steps > 0 else float(last.get("step_seconds") or 0)
    return max(0, stop - step) * pace


def _warnings(found: RunState, begin: Record, recent: list[Record], torn: bool) -> list[str]:
    said = []
    train = found.train or {}
    if found.state == "silent":
        said.append(f"{found.why}: it hangs, or its machine is gone; look on {found.host or 'its host'}")
    if torn and found.state != "training":
        said.append("log.jsonl ends in a half-written line, which is left out here")
    if "loss" in train and train["loss"] is None and any((train.get("scored") or {"": 1}).values()):
        said.append(f"the loss of step {step_of_record(train)} is not a number")
    val = found.val or {}
    for name, lost in (val.get("lost") or {}).items():
        of = f"{lost} of {(val.get('scored') or {}).get(name, '?')} tiles"
        at = step_of_record(val)
        said.append(f"the validation loss of {name} at step {at} is not a number: it is not finite on {of}")
    if (waiting := train.get("data_wait_share") or 0) > MUCH_WAITING:
        said.append(f"waits for data {waiting:.0%} of the time: try more data.workers")
    slow, median = train.get("slowest_step_seconds") or 0, train.get("median_step_seconds") or 0
    if (begin.get("world") or 1) > 1 and median and slow > SLOW_RANK * median:
        rank = train.get("slowest_rank", "?")
        said.append(f"rank {rank} is {slow / median:.1f} times as slow as the median: all wait for it")
    if found.damaged_tiles:
        said.append(f"left out: {counted(found.damaged_tiles, 'damaged tile')}; damaged_rank*.jsonl names them")
    every = begin.get("checkpoint_every")
    if every and len(recent) > 1 and found.state == "training":
        steps = step_of_record(recent[-1]) - step_of_record(recent[0])
        pace = (time_of_record(recent[-1]) - time_of_record(recent[0])) / max(1, steps)
        if found.checkpoint_age is not None and found.checkpoint_age > 2 * every * pace + SILENT_SECONDS:
            said.append(f"the last checkpoint is {found.checkpoint_age:.0f} s old; one is due every {every * pace:.0f}")
    return said
