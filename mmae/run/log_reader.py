"""The lines of log.jsonl, read while others are written, and from the end: weeks of records are not read for the last.

A log holds one history. A start that resumes from an earlier step moves the records of later steps to an archive. Logs
of earlier versions still contain them; they are left out here.
"""

from __future__ import annotations

import json
import math
import mmap
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from mmae.disk.json_text import parse_json, standard_json
from mmae.disk.regular_file import open_regular
from mmae.run.record_fields import is_sound

Record = dict[str, Any]

BEGINS: Final = ("start", "resume")
END: Final = "end"
ARCHIVED: Final = "archived"
"""A record of this kind says that records of later steps were moved out of the log, and where they are."""


def new_record(kind: str, **values: Any) -> Record:
    """A record of now. Its kind comes first, because readers look for it there."""
    return {"kind": kind, "time": round(time.time(), 3), **values}


def line_of(record: Record) -> bytes:
    """The line of a record, as `record_of` reads it."""
    return json.dumps(standard_json(record)).encode() + b"\n"


def record_of(line: bytes) -> Record:
    """The record in a line; empty if the line is damaged or half written, or a field holds what it cannot."""
    try:
        record = parse_json(line)
    except ValueError:
        return {}
    return record if isinstance(record, dict) and is_sound(record) else {}


def step_of_record(record: Record) -> int:
    """The step of a record; 0 if it has none."""
    step = record.get("step")
    return step if isinstance(step, int) else 0


def time_of_record(record: Record) -> float:
    """When a record was written, in seconds; 0 if it does not say."""
    return float(record.get("time") or 0)


def ends_in_a_torn_line(file: Path) -> bool:
    """Whether a file's last line is half written, by a process that was killed."""
    with file.open("rb") as read:
        if not read.seek(0, 2):
            return False
        read.seek(-1, 2)
        return read.read() != b"\n"


class LogRecords:
    """The whole lines that log.jsonl held when it was opened; a line that is half written is not there yet."""

    def __init__(self, path: Path) -> None:
        self._bytes: mmap.mmap | bytes = b""
        self.torn = False
        """Whether the file ended in a part of a line."""
        self._found: dict[tuple[str, int], int] = {}
        with open_regular(path) as file:
            if file.seek(0, 2):
                self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._end = self._bytes.rfind(b"\n") + 1
        self.torn = self._end < len(self._bytes)

    def last(self, *kinds: str) -> Record | None:
        """The newest record of any of these kinds; damaged lines are left out."""
        return next(self._newest_first(*kinds), None)

    def all(self, kind: str) -> list[Record]:
        """Every record of a kind, oldest first."""
        return list(self._newest_first(kind))[::-1]

    def recent(self, kind: str, count: int, since: Iterable[str]) -> list[Record]:
        """The newest `count` records of a kind, oldest first, that follow the newest record of a kind in `since`."""
        found: list[Record] = []
        for record in self._newest_first(kind, *since):
            if record["kind"] != kind or len(found) == count:
                break
            found.append(record)
        return found[::-1]

    def _newest_first(self, *kinds: str) -> Iterator[Record]:
        """Records of these kinds, without the steps that a later start went back before."""
        places = {kind: self._before(kind, self._end) for kind in {*kinds, *BEGINS}}
        went_on_from = math.inf
        while (place := max(places.values())) >= 0:
            kind = next(each for each in places if places[each] == place)
            places[kind] = self._before(kind, place)
            record = self._read(place)
            if record is None:
                continue
            step = step_of_record(record)
            if kind in kinds and step <= went_on_from:
                yield record
            if kind in BEGINS:
                went_on_from = min(went_on_from, step)

    def _before(self, kind: str, end: int) -> int:
        """The offset of the last line of a kind that begins before `end`; -1 if there is none."""
        # A kind that is rare, or in no line, is looked for in gigabytes: once.
        if (kind, end) not in self._found:
            self._found[kind, end] = self._search(kind, end)
        return self._found[kind, end]

    def _search(self, kind: str, end: int) -> int:
        start = b'{"kind": "' + kind.encode() + b'"'
        place = self._bytes.rfind(b"\n" + start, 0, end)
        if place >= 0:
            return place + 1
        return 0 if end > 0 and self._bytes[: len(start)] == start else -1

    def _read(self, place: int) -> Record | None:
        return record_of(self._bytes[place : self._bytes.find(b"\n", place)]) or None
