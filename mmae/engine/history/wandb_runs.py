"""Which Weights & Biases run holds which steps of a run.

Every start of training is a W&B run of its own, in one group. A run that holds steps which a later start did not go on
with leaves the group's history; the next one takes over the steps before, from log.jsonl. What is known of them stands
in the log: each record of a start names its W&B run and the step after which that run's records begin.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mmae.run.log_reader import ARCHIVED, BEGINS, record_of, step_of_record

_NAME: Final = re.compile(r"[0-9a-f]{8}")
_HEADS: Final = tuple(b'{"kind": "' + kind.encode() + b'"' for kind in (*BEGINS, ARCHIVED))


@dataclass(frozen=True)
class WandbRun:
    """A W&B run.

    Attributes:
        name: its id.
        after: it holds the records of later steps than this one.
        archived: ids of those that it takes over from.
    """

    name: str
    after: int
    archived: tuple[str, ...] = ()


def new_run(log: Path, step: int) -> WandbRun:
    """The W&B run of a start that goes on from `step`. The log may be missing, or hold no such runs."""
    after, archived = step, list[str]()
    for record in _begins_and_archived(log):
        if record.get("kind") == ARCHIVED and "wandb" in record:
            after = min(after, int(record["wandb_from"]))
            archived += record["wandb"]
        elif "wandb" in record:
            after, archived = step, []
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
    return sorted(folder for name in names for folder in (run / "wandb").glob(f"*run-*-{name}"))


def records_to_take_over(log: Path, run: WandbRun) -> Iterator[dict[str, Any]]:
    """The records that the log holds at the call, and a new run lacks: read later, one by one."""
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
