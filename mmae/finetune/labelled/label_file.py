"""Labels of tiles from a file: a line a tile, with its id."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmae.data.label_files.label_lines import ID, MOST_CLASSES, LabelLines, class_names, number_of, read_label_lines
from mmae.errors import InputError
from mmae.finetune.labelled.label_sources import RowLabels
from mmae.terminal.plurals import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.config.finetune_schema import TaskKind
    from mmae.data.shards.index import Index

LABEL: Final = "label"
SPLIT: Final = "split"
_LARGEST: Final = float(np.finfo(np.float32).max)


@dataclass(frozen=True, eq=False)
class LabelTable:
    """What a file says about tiles that are known.

    Attributes:
        places: of tiles, int64 (n,), ascending; each once.
        labels: of these: int64 (n,) of a classification, -1 where the class is not known; float32 (n, K) of the other
            kinds, NaN where nothing is known.
        names: of classes or targets.
        split_of: split -> places, int64, ascending; empty where the file has no column `split`.
        notes: what was left out.
    """

    places: NDArray[np.int64]
    labels: NDArray[Any]
    names: tuple[str, ...]
    split_of: dict[str, NDArray[np.int64]]
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class LabelFile:
    """What a file says.

    Attributes:
        source: the labels of the tiles of a shard set.
        split_of: split -> positions in the set's index, ascending; empty where the file has no column `split`.
        notes: what was left out.
    """

    source: RowLabels
    split_of: dict[str, Any]
    notes: tuple[str, ...]


def read_label_file(path: Path, kind: TaskKind, index: Index) -> LabelFile:
    """The labels of a CSV or Parquet file for the tiles of a shard set.

    Raises:
        InputError: see `read_label_table`.
    """
    ids, number_N = np.unique(index.tile_id, return_inverse=True)
    known = {tile.decode(errors="replace"): number for number, tile in enumerate(ids.tolist())}
    found = read_label_table(path, kind, known, str(index.folder))
    # Several tiles of a set may have one id: each has its labels.
    place_N = np.searchsorted(found.places, number_N).clip(max=len(found.places) - 1)
    positions = np.flatnonzero(found.places[place_N] == number_N)
    order = positions[np.argsort(index.row[positions])]
    labels = np.ascontiguousarray(found.labels[place_N[order]])
    split_of = {name: np.flatnonzero(np.isin(number_N, some)) for name, some in found.split_of.items()}
    return LabelFile(RowLabels(index.row[order], labels, found.names, kind), split_of, found.notes)


def read_label_table(path: Path, kind: TaskKind, place_of: Mapping[str, int], where: str) -> LabelTable:
    """The labels of a CSV or Parquet file for tiles that are known by their ids.

    Its column `tile_id`, or `image`, names the tile. A classification has the column `label`, whose values are the
    names of classes; a multi-label task one column a class with 0 or 1; a regression one column a target. A cell
    without text is a label that is not known.

    Args:
        place_of: id -> place of a tile; several ids may lead to one.
        where: names the tiles in messages.

    Raises:
        InputError: the file cannot be read, has other columns or values, names a tile twice, or none that is known.
    """
    found = read_label_lines(path, "task.labels")
    columns = _label_columns(path, found)
    strange, seen = 0, dict[int | str, int]()
    rows: list[tuple[int, Line, str]] = []
    for number, line in found.lines:
        tile = line[found.own]
        place = place_of.get(tile)
        same = tile if place is None else place
        if same in seen:
            raise InputError(f"{path}:{number}: tile {tile!r} stands in line {seen[same]} too: keep one of them")
        seen[same] = number
        if place is None:
            strange += 1
            continue
        rows.append((place, (number, [line[name] for name in columns]), line.get(SPLIT, "")))
    if not rows:
        raise InputError(f"{path}: none of its {counted(strange, 'tile id')} is in {where}: is it that set's file?")
    rows.sort(key=lambda row: row[0])
    cells = [cell for _, cell, _ in rows]
    labels, names = _classes(path, columns, cells) if kind == "classification" else _numbers(path, kind, columns, cells)
    places = np.array([place for place, _, _ in rows], np.int64)
    split_of = {
        name: places[[own_split == name for _, _, own_split in rows]]
        for name in dict.fromkeys(split for _, _, split in sorted(rows, key=lambda row: row[1][0]))
        if name
    }
    notes = (f"{path}: {counted(strange, 'tile id')} not in {where}, left out",) if strange else ()
    return LabelTable(places, labels, names, split_of, notes)


Line = tuple[int, list[str]]


def _label_columns(path: Path, found: LabelLines) -> list[str]:
    columns = [name for name in found.columns if name != SPLIT]
    if not columns:
        raise InputError(f"{path}: no column holds labels: add a column {LABEL!r}")
    return columns


def _classes(path: Path, columns: list[str], cells: list[Line]) -> tuple[Any, tuple[str, ...]]:
    if columns != [LABEL]:
        raise InputError(
            f"{path}: a classification takes {ID!r}, {LABEL!r} and perhaps {SPLIT!r}, this file has "
            f"{', '.join(columns)}: keep one column of labels, and name it {LABEL!r}"
        )
    said = [values[0] for _, values in cells]
    names = class_names(said)
    if not 2 <= len(names) <= MOST_CLASSES:
        raise InputError(
            f"{path}: {counted(len(names), 'class', 'classes')} among its labels, 2 to {MOST_CLASSES} are needed"
        )
    ids = {name: place for place, name in enumerate(names)}
    return np.array([ids.get(name, -1) for name in said], np.int64), names


def _numbers(path: Path, kind: TaskKind, columns: list[str], cells: list[Line]) -> tuple[Any, tuple[str, ...]]:
    labels = np.full((len(cells), len(columns)), np.nan, np.float32)
    for place, (number, values) in enumerate(cells):
        for column, text in enumerate(values):
            if not text:
                continue
            value = number_of(text)
            if value is None:
                raise InputError(f"{path}:{number}: {columns[column]}={text!r} is not a number")
            if kind == "multilabel" and not math.isnan(value) and value not in {0.0, 1.0}:
                raise InputError(f"{path}:{number}: {columns[column]}={text} must be 0 or 1, or empty")
            if math.isfinite(value) and abs(value) > _LARGEST:
                raise InputError(f"{path}:{number}: {columns[column]}={text} is too large: write it in another unit")
            labels[place, column] = value if math.isfinite(value) else math.nan
    return labels, tuple(columns)
