"""What a run's log.jsonl tells, read in seconds however long it is: other lines whole, steps as an even sample.

A log may be written at this moment, hold damaged lines, and, if an earlier version wrote it, steps that a later start
did not go on with. Half lines and damaged ones are counted and left out, and so are such steps.
"""

from __future__ import annotations

import mmap
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmae.disk.regular_file import open_regular
from mmae.run.log_reader import BEGINS, record_of, step_of_record

if TYPE_CHECKING:
    from numpy.typing import NDArray

Record = dict[str, Any]

STEPS: Final = "train"
MOST_STEPS: Final = 6_000
"""Records of steps that are read; a chart has far fewer points."""
MOST_OTHERS: Final = 4_000
"""Records that are read of each other kind."""
_CHUNK: Final = 1 << 26
_HEAD: Final = b'{"kind": "'
_PREFIX: Final = 32
"""Bytes of a line in which its kind stands."""


@dataclass(frozen=True, eq=False)
class History:
    """The records of a run, oldest first.

    Attributes:
        steps: records of steps, an even sample where there are more than `MOST_STEPS`.
        others: every other kind -> its records.
        lines: lines of the file.
        step_lines: lines with records of steps.
        damaged: lines among those read that hold no record, and a half line at the end.
    """

    steps: Sequence[Record]
    others: Mapping[str, Sequence[Record]]
    lines: int
    step_lines: int
    damaged: int

    def of(self, *kinds: str) -> list[Record]:
        """The records of some kinds beside steps, those of each kind in order."""
        return [record for kind in kinds for record in self.others.get(kind, ())]


def read_history(path: Path) -> History:
    """The records of a log; none if the file is missing.

    Raises:
        OSError: it cannot be read.
    """
    if not path.is_file():
        return History((), {}, 0, 0, 0)
    with open_regular(path) as file:
        if not file.seek(0, 2):
            return History((), {}, 0, 0, 0)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _history(content)


def _history(content: mmap.mmap) -> History:
    bytes_N = np.frombuffer(content, np.uint8)
    ends_L = _line_ends(bytes_N)
    starts_L = np.concatenate([np.zeros(1, np.int64), ends_L + 1])[: len(ends_L)]
    is_step_L = _are_steps(bytes_N, starts_L, ends_L)
    # The map cannot be closed while an array stands on it.
    del bytes_N
    torn = int(not len(ends_L) or ends_L[-1] + 1 < len(content))
    kinds: dict[str, list[int]] = {}
    for line in np.flatnonzero(~is_step_L).tolist():
        kinds.setdefault(_kind(content[starts_L[line] : ends_L[line]]), []).append(line)
    steps = np.flatnonzero(is_step_L)
    chosen = {STEPS: _sample(steps, MOST_STEPS)}
    for kind, lines in kinds.items():
        chosen[kind] = np.array(lines) if kind in BEGINS else _sample(np.array(lines), MOST_OTHERS)
    read: dict[str, list[tuple[int, Record]]] = {}
    damaged = torn
    for kind, at in chosen.items():
        records = [(line, record_of(content[starts_L[line] : ends_L[line]])) for line in at.tolist()]
        read[kind] = [(line, record) for line, record in records if record and record.get("kind") == kind]
        damaged += len(records) - len(read[kind])
    kept = _on_the_way(read)
    return History(kept.pop(STEPS), kept, len(ends_L), len(steps), damaged)


def _line_ends(bytes_N: NDArray[np.uint8]) -> NDArray[np.int64]:
    found = [np.empty(0, np.int64)]
    for begin in range(0, len(bytes_N), _CHUNK):
        found.append(np.flatnonzero(bytes_N[begin : begin + _CHUNK] == ord("\n")).astype(np.int64) + begin)
    return np.concatenate(found)


def _are_steps(bytes_N: NDArray[np.uint8], starts_L: NDArray[np.int64], ends_L: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which lines begin as records of steps do, bool (L,). No line is cut out: there may be millions."""
    head = np.frombuffer(_HEAD + STEPS.encode() + b'"', np.uint8)
    steps_L = ends_L - starts_L > len(head)
    for place in range(len(head) - 1, -1, -1):
        at = starts_L[steps_L] + place
        steps_L[steps_L] = bytes_N[at] == head[place]
    return steps_L


def _kind(line: bytes) -> str:
    """The kind of a line; that of no record is empty."""
    name, quote, _ = line[len(_HEAD) : _PREFIX].partition(b'"')
    return name.decode(errors="replace") if quote and line.startswith(_HEAD) else ""


def _sample(lines: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    if len(lines) <= most:
        return lines
    return lines[np.linspace(0, len(lines) - 1, most).round().astype(np.int64)]


def _on_the_way(read: Mapping[str, Sequence[tuple[int, Record]]]) -> dict[str, list[Record]]:
    """The records without the steps that a later start went back before."""
    begins = sorted((line, step_of_record(record)) for kind in BEGINS for line, record in read.get(kind, ()))
    lines = [line for line, _ in begins]
    lowest = [step for _, step in begins]
    for at in range(len(lowest) - 2, -1, -1):
        lowest[at] = min(lowest[at], lowest[at + 1])

    def stays(line: int, record: Record) -> bool:
        after = bisect_right(lines, line)
        return after == len(lowest) or step_of_record(record) <= lowest[after]

    return {kind: [record for line, record in records if stays(line, record)] for kind, records in read.items()}
