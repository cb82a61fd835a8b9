"""Reading log.jsonl while it is being written, and from its end: weeks of records are not read to find the last one."""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmae.regular_file import open_regular

Record = dict[str, Any]


class LogRecords:
    """The whole lines that log.jsonl held when it was opened; a line that is half written is not there yet."""

    def __init__(self, path: Path) -> None:
        self._bytes: mmap.mmap | bytes = b""
        self.torn = False
        """Whether the file ended in a part of a line."""
        with open_regular(path) as file:
            if file.seek(0, 2):
                self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._end = self._bytes.rfind(b"\n") + 1
        self.torn = self._end < len(self._bytes)

    def last(self, *kinds: str) -> Record | None:
        """The newest record of any of these kinds; damaged lines are left out."""
        end = self._end
        while (place := max(self._before(kind, end) for kind in kinds)) >= 0:
            if (record := self._read(place)) is not None:
                return record
            end = place
        return None

    def recent(self, kind: str, count: int, since: Iterable[str]) -> list[Record]:
        """The newest `count` records of a kind, oldest first, that follow the newest record of a kind in `since`."""
        floor = max((self._before(each, self._end) for each in since), default=-1)
        found: list[Record] = []
        place = self._before(kind, self._end)
        while place > floor and len(found) < count:
            record = self._read(place)
            if record is not None:
                found.append(record)
            place = self._before(kind, place)
        return found[::-1]

    def _before(self, kind: str, end: int) -> int:
        """Where the last line of a kind begins that begins before `end`; -1 if none does."""
        start = b'{"kind": "' + kind.encode() + b'"'
        place = self._bytes.rfind(b"\n" + start, 0, end)
        if place >= 0:
            return place + 1
        return 0 if end > 0 and self._bytes[: len(start)] == start else -1

    def _read(self, place: int) -> Record | None:
        line = self._bytes[place : self._bytes.find(b"\n", place)]
        try:
            record = json.loads(line)
        except ValueError:
            return None
        return record if isinstance(record, dict) else None
