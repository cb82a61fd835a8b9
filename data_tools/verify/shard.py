"""The check of one shard against the index, without the reader's code: of every byte, and of every decoded member."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import xxhash

from data_tools.verify.differences import Difference, ShardReport
from data_tools.verify.header import strays
from data_tools.verify.tile import TileCheck
from mmae.data.shards.tar_layout import extents, info_name, member_name

if TYPE_CHECKING:
    from data_tools.verify.source_comparison import Reference
    from data_tools.workers.worker import Tally
    from mmae.data.shards.index import Index

_CHUNK: Final = 1 << 22


@dataclass(frozen=True)
class Task:
    """A shard to check.

    Attributes:
        number: number of the shard in the index.
        tile_info: the source's entry for each of its tiles, as JSON text; None without a source.
    """

    number: int
    tile_info: list[str] | None = None

    def __str__(self) -> str:
        return f"shard {self.number}"


class ShardCheck:
    """The check of one shard; picklable.

    Args:
        reference: the source for the comparison of every value; None to check the shards alone.
    """

    def __init__(self, index: Index, reference: Reference | None) -> None:
        self._index = index
        self._reference = reference

    def __call__(self, task: Task, tally: Tally) -> ShardReport:
        """Check a shard. Damage is reported, never raised."""
        info = self._index.shards[task.number]
        path = self._index.folder / info.name
        report = ShardReport(task.number)
        if not path.is_file():
            what = "is no plain file" if os.path.lexists(path) else "is missing"
            report.findings.add([Difference(info.name, None, None, what)])
            tally.add(info.tiles, 0)
            return report
        try:
            descriptor = os.open(path, os.O_RDONLY)
            try:
                _look(self._index, TileCheck(self._index, self._reference), task, descriptor, report, tally)
            finally:
                os.close(descriptor)
        except OSError as error:
            report.findings.put_first([Difference(info.name, None, None, f"cannot be read ({error.strerror})")])
        return report


def _look(index: Index, check: TileCheck, task: Task, descriptor: int, report: ShardReport, tally: Tally) -> None:
    """Fill the report in one pass over the file: tile by tile, then the bytes after the last tile."""
    info = index.shards[task.number]
    positions = np.flatnonzero(index.shard == task.number).tolist()
    file_bytes = os.fstat(descriptor).st_size
    hasher, at, adjoining = xxhash.xxh3_128(), 0, True
    for number, position in enumerate(positions):
        begin, length = index.offset.item(position), index.span_of(position)
        content = os.pread(descriptor, max(0, min(length, file_bytes - begin)), begin)
        adjoining &= begin == at
        if adjoining:
            hasher.update(content)
        at = begin + length
        tile_info = task.tile_info[number] if task.tile_info is not None else None
        report.findings.add(check.differences(position, content, tile_info))
        report.tiles += 1
        tally.add(1, length)
    empty = _rest(descriptor, at, hasher)
    found = [] if adjoining else ["its tiles do not follow one another in the index"]
    if file_bytes != info.bytes:
        found.append(f"{file_bytes} bytes, {info.bytes} were packed")
    elif adjoining and hasher.hexdigest() != info.hash:
        found.append("the file's hash differs")
    report.whole = not found
    if not empty:
        found.append(f"what follows its last tile, from byte {at} on, is not all 0")
    if not (check.regular and empty and adjoining):
        found += strays(descriptor, file_bytes, _places(index, positions))
    report.findings.put_first([Difference(info.name, None, None, what) for what in found])


def _rest(descriptor: int, at: int, hasher: xxhash.xxh3_128) -> bool:
    """Hash the bytes after the last tile, and return whether all are 0."""
    empty = True
    while chunk := os.pread(descriptor, _CHUNK, at):
        hasher.update(chunk)
        empty &= chunk.count(0) == len(chunk)
        at += len(chunk)
    return empty


def _places(index: Index, positions: list[int]) -> dict[str, int]:
    """Name of each member -> offset of its header."""
    names = list(index.datasets)
    places = {}
    for position in positions:
        begin, row = index.offset.item(position), index.row.item(position)
        for column, start, _ in extents(index.size[position].tolist(), index.info_size.item(position)):
            name = member_name(row, names[column]) if column < len(names) else info_name(row)
            places[name] = begin + start
    return places
