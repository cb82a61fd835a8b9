"""Archives records of steps that a start does not go on with, beside their checkpoints, so that one history is left.

A file with records of earlier and later steps is split. The later part is on the disk before it leaves the file: if the
start is killed in between, a record exists twice, but none is lost.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from mmae.disk.files import atomic_file, sync
from mmae.engine.history.event_files import event_files, split_events
from mmae.engine.history.wandb_runs import folders_of, runs_beyond
from mmae.run.layout import DAMAGED_TILES, LOG, PICTURES, PROFILE, QUARANTINE, QUARANTINED, SAMPLES, TENSORBOARD, WANDB
from mmae.run.log_reader import ARCHIVED, BEGINS, line_of, new_record, record_of, step_of_record

Chunks = Iterable[tuple[bool, bytes]]
"""Parts of a file in order, and whether each is of a later step."""

_LINES: Final = (SAMPLES, DAMAGED_TILES, f"{QUARANTINE}/{QUARANTINED}")
_NAMED: Final[Mapping[str, re.Pattern[str]]] = MappingProxyType({
    f"{PICTURES}/step_*.png": re.compile(r"step_(\d{1,18})\.png"),
    f"{PROFILE}/steps_*.json.gz": re.compile(r"steps_\d+-(\d{1,18})\.json\.gz"),
})  # fmt: skip
"""Files of one step each, or with the last step in their name."""


def is_ahead(run: Path, step: int) -> bool:
    """Whether a run's folder holds records of later steps."""
    return any(True for _ in _later_files(run, step))


def archive_records(run: Path, step: int, archive: Path) -> None:
    """Move every record of a later step into `archive`, under the same file names as in the run's folder."""
    for path in list(_later_files(run, step)):
        target = archive / path.relative_to(run)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.name == LOG:
            gone = runs_beyond(_records(path), step)
            for folder in folders_of(run, [each.name for each in gone]):
                (archive / WANDB).mkdir(exist_ok=True)
                os.rename(folder, archive / WANDB / folder.name)
            about: dict[str, Any] = {"step": step, "folder": archive.name}
            if gone:
                about |= {"wandb": [each.name for each in gone], "wandb_from": min(each.after for each in gone)}
            _split(path, target, _log_chunks(path, step, about))
        elif path.suffix == ".jsonl":
            _split(path, target, _line_chunks(path, step))
        elif path.parent.name == TENSORBOARD:
            _split(path, target, split_events(path, step))
        else:
            os.rename(path, target)
            sync(path.parent)


def _later_files(run: Path, step: int) -> Iterator[Path]:
    for pattern in (LOG, *_LINES):
        yield from (path for path in sorted(run.glob(pattern)) if any(goes for goes, _ in _line_chunks(path, step)))
    yield from (path for path in event_files(run) if any(goes for goes, _ in split_events(path, step)))
    for pattern, name in _NAMED.items():
        found = ((path, name.fullmatch(path.name)) for path in sorted(run.glob(pattern)))
        yield from (path for path, match in found if match and int(match[1]) > step)


def _split(path: Path, target: Path, chunks: Chunks) -> None:
    # The inner file, the archived part, gets its place first.
    with atomic_file(path) as kept, atomic_file(target) as archived:
        for goes, chunk in chunks:
            (archived if goes else kept).write(chunk)


def _line_chunks(path: Path, step: int) -> Iterator[tuple[bool, bytes]]:
    # A line of samples counts steps from 0: it names the steps that were done before.
    first = 0 if path.match(SAMPLES) else 1
    with path.open("rb") as lines:
        for line in lines:
            record = record_of(line)
            # A damaged or half-written line stays where it is, and so does a line without a step.
            yield "step" in record and step_of_record(record) - first >= step, line


def _log_chunks(path: Path, step: int, about: Mapping[str, Any]) -> Iterator[tuple[bool, bytes]]:
    """Split the log. The later part repeats its start record, so that `mmae status` can read it as a run's log."""
    begin, torn = b"", False
    for goes, line in _line_chunks(path, step):
        if goes and begin:
            yield True, begin
            begin = b""
        if not goes and record_of(line).get("kind") in BEGINS:
            begin = line
        if not goes:
            torn = not line.endswith(b"\n")
        yield goes, line
    yield False, b"\n" * torn + line_of(new_record(ARCHIVED, **about))


def _records(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as lines:
        yield from map(record_of, lines)
