"""Labels of tiles from a CSV file: a line a tile, with its id."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmae.disk.regular_file import read_regular
from mmae.errors import InputError, did_you_mean
from mmae.finetune.labelled.label_sources import RowLabels
from mmae.terminal.plurals import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.config.finetune_schema import TaskKind
    from mmae.data.shards.index import Index

ID: Final = "tile_id"
IMAGE: Final = "image"
"""Another name of that column, for tiles that are images in a folder."""
LABEL: Final = "label"
SPLIT: Final = "split"
_MOST_CLASSES: Final = 10_000


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
    """The labels of a CSV file for the tiles of a shard set.

    Raises:
        InputError: see `read_label_table`.
    """
    numbers = {tile.decode(errors="replace"): place for place, tile in enumerate(index.tile_id.tolist())}
    found = read_label_table(path, kind, numbers, str(index.folder))
    row_N = index.row[found.places]
    order = np.argsort(row_N)
    rows, labels = (np.ascontiguousarray(array[order]) for array in (row_N, found.labels))
    return LabelFile(RowLabels(rows, labels, found.names, kind), found.split_of, found.notes)


def read_label_table(path: Path, kind: TaskKind, place_of: Mapping[str, int], where: str) -> LabelTable:
    """The labels of a CSV file for tiles that are known by their ids.

    Its column `tile_id`, or `image`, names the tile. A classification has the column `label`, whose values are the
    names of classes; a multi-label task one column a class with 0 or 1; a regression one column a target. A cell
    without text is a label that is not known.

    Args:
        place_of: id -> place of a tile; several ids may lead to one.
        where: names the tiles in messages.

    Raises:
        InputError: the file cannot be read, has other columns or values, names a tile twice, or none that is known.
    """
    lines, columns, own = _lines(path)
    strange, seen = 0, dict[int | str, int]()
    rows: list[tuple[int, Line, str]] = []
    for number, line in lines:
        tile = line[own].strip()
        place = place_of.get(tile)
        same = tile if place is None else place
        if same in seen:
            raise InputError(f"{path}:{number}: tile {tile!r} stands in line {seen[same]} too: keep one of them")
        seen[same] = number
        if place is None:
            strange += 1
            continue
        rows.append((place, (number, [line[name].strip() for name in columns]), (line.get(SPLIT) or "").strip()))
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


def _lines(path: Path) -> tuple[list[tuple[int, dict[str, str]]], list[str], str]:
    """The numbered lines, the columns that hold labels, and the one that names tiles."""
    try:
        text = read_regular(path).decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): give task.labels a CSV file") from None
    except ValueError:
        raise InputError(f"{path}: not UTF-8 text: give task.labels a CSV file") from None
    try:
        reader = csv.DictReader(text.splitlines(), strict=True)
        header = [name.strip() for name in reader.fieldnames or ()]
        reader.fieldnames = header
        lines = [(reader.line_num, line) for line in reader]
    except csv.Error as error:
        raise InputError(f"{path}: not a CSV file: {error}") from None
    own = next((name for name in (ID, IMAGE) if name in header), None)
    if own is None:
        raise InputError(f"{path}: no column {ID!r}{did_you_mean(ID, header)}: its first line names the columns")
    if len(set(header)) != len(header):
        raise InputError(f"{path}: two columns have the same name: rename one")
    for number, line in lines:
        if None in line or None in line.values():
            raise InputError(f"{path}:{number}: this line has not the {len(header)} columns of the first line")
    columns = [name for name in header if name not in {own, SPLIT}]
    if not columns:
        raise InputError(f"{path}: no column holds labels: add a column {LABEL!r}")
    return lines, columns, own


def _classes(path: Path, columns: list[str], cells: list[Line]) -> tuple[Any, tuple[str, ...]]:
    if columns != [LABEL]:
        raise InputError(
            f"{path}: a classification takes {ID!r}, {LABEL!r} and perhaps {SPLIT!r}, this file has "
            f"{', '.join(columns)}: keep one column of labels, and name it {LABEL!r}"
        )
    said = [values[0] for _, values in cells]
    names = tuple(sorted({name for name in said if name}, key=_as_number))
    if not 2 <= len(names) <= _MOST_CLASSES:
        raise InputError(
            f"{path}: {counted(len(names), 'class', 'classes')} among its labels, 2 to {_MOST_CLASSES} are needed"
        )
    ids = {name: place for place, name in enumerate(names)} | {"": -1}
    return np.array([ids[name] for name in said], np.int64), names


def _as_number(name: str) -> tuple[float, str]:
    """Sorts `10` behind `9`."""
    return (float(name), "") if name.isascii() and name.isdigit() else (math.inf, name)


def _numbers(path: Path, kind: TaskKind, columns: list[str], cells: list[Line]) -> tuple[Any, tuple[str, ...]]:
    labels = np.full((len(cells), len(columns)), np.nan, np.float32)
    for place, (number, values) in enumerate(cells):
        for column, text in enumerate(values):
            if not text:
                continue
            try:
                value = float(text)
            except ValueError:
                raise InputError(f"{path}:{number}: {columns[column]}={text!r} is not a number") from None
            if kind == "multilabel" and value not in {0.0, 1.0}:
                raise InputError(f"{path}:{number}: {columns[column]}={text} must be 0 or 1, or empty")
            labels[place, column] = value if math.isfinite(value) else math.nan
    return labels, tuple(columns)
