"""Which Weights & Biases run holds which steps of a run.

A start that goes on where the one before ended goes on with its W&B run too; where W&B is offline, which cannot go on,
every start is a W&B run of its own, all in one group. If a start does not go on with some steps of a W&B run, that W&B
run leaves the group, and the next one repeats its earlier steps from log.jsonl. The log holds all that is needed: each
record of a start names its W&B run and the step after which that run's records begin.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mmae.run.layout import WANDB
from mmae.run.log_reader import ARCHIVED, BEGINS, record_of, step_of_record

_NAME: Final = re.compile(r"[0-9a-f]{8}")
_HEADS: Final = tuple(b'{"kind": "' + kind.encode() + b'"' for kind in (*BEGINS, ARCHIVED))


@dataclass(frozen=True)
class WandbRun:
    """A W&B run.

    Attributes:
        name: its id.
        after: the W&B run holds the records of steps after this one.
        archived: ids of the W&B runs that it replaces.
        goes_on: the W&B run exists, and this start adds to it.
    """

    name: str
    after: int
    archived: tuple[str, ...] = ()
    goes_on: bool = False


def run_of_start(log: Path, step: int, can_go_on: bool) -> WandbRun:
    """The W&B run of a start that goes on from `step`. The log may be missing, or name no W&B runs.

    Args:
        can_go_on: W&B can add to a run that exists; it cannot where it is offline.
    """
    after, archived = step, list[str]()
    last: WandbRun | None = None
    for record in _begins_and_archived(log):
        if record.get("kind") == ARCHIVED and "wandb" in record:
            after = min(after, int(record["wandb_from"]))
            archived += record["wandb"]
        elif "wandb" in record:
            after, archived, last = step, [], _run_of(record)
    if can_go_on and last is not None and last.name not in archived and not archived:
        return WandbRun(last.name, last.after, goes_on=True)
    return WandbRun(new_name(), after, tuple(archived))


def new_name() -> str:
    """An id that no other W&B run has."""
    return secrets.token_hex(4)


def runs_beyond(records: Iterable[dict[str, Any]], step: int) -> list[WandbRun]:
    """The runs that hold records of later steps than `step`."""
    found: dict[str, WandbRun] = {}
    current: WandbRun | None = None
    for record in records:
        if record.get("kind") in BEGINS:
            current = _run_of(record)
        if current is not None and step_of_record(record) > step:
            found[current.name] = current
    return list(found.values())


def folders_of(run: Path, names: Sequence[str]) -> list[Path]:
    """Where W&B keeps these runs on this machine."""
    return sorted(folder for name in names for folder in (run / WANDB).glob(f"*run-*-{name}"))


def records_to_take_over(log: Path, run: WandbRun) -> Iterator[dict[str, Any]]:
    """The records that the log holds now and a new W&B run lacks. They are read later, one by one."""
    return _records_to_take_over(log, run, log.stat().st_size) if run.archived else iter(())


def _records_to_take_over(log: Path, run: WandbRun, size: int) -> Iterator[dict[str, Any]]:
    with log.open("rb") as file:
        for line in file:
            if file.tell() > size:
                return
            record = record_of(line)
            if record.get("kind") not in {*BEGINS, ARCHIVED} and step_of_record(record) > run.after:
                yield record


def _run_of(begin: Mapping[str, Any]) -> WandbRun | None:
    name, after = begin.get("wandb"), begin.get("wandb_from")
    if isinstance(name, str) and _NAME.fullmatch(name) and isinstance(after, int):
        return WandbRun(name, after)
    return None


def _begins_and_archived(log: Path) -> Iterator[dict[str, Any]]:
    if log.is_file():
        with log.open("rb") as lines:
            yield from (record_of(line) for line in lines if line.startswith(_HEADS))
