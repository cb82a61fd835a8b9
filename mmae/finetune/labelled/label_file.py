"""Labels of tiles from a CSV file: a line a tile, with its id."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmae.disk.regular_file import read_regular
from mmae.errors import InputError, did_you_mean
from mmae.finetune.labelled.label_sources import RowLabels
from mmae.terminal.plurals import counted

if TYPE_CHECKING:
    from mmae.config.finetune_schema import TaskKind
    from mmae.data.shards.index import Index

ID: Final = "tile_id"
LABEL: Final = "label"
SPLIT: Final = "split"
_MOST_CLASSES: Final = 10_000


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

    A classification has the column `label`, whose values are the names of classes; a multi-label task one column a
    class with 0 or 1; a regression one column a target. A cell without text is a label that is not known.

    Raises:
        InputError: the file cannot be read, has other columns or values, names a tile twice, or no tile of the set.
    """
    lines, columns = _lines(path)
    numbers = {tile: place for place, tile in enumerate(index.tile_id.tolist())}
    places, cells, splits, strange, seen = [], [], [], 0, dict[str, int]()
    for number, line in lines:
        tile = line[ID].strip()
        if tile in seen:
            raise InputError(f"{path}:{number}: tile {tile!r} stands in line {seen[tile]} too: keep one of them")
        seen[tile] = number
        place = numbers.get(tile.encode())
        if place is None:
            strange += 1
            continue
        places.append(place)
        cells.append((number, [line[name].strip() for name in columns]))
        splits.append((line.get(SPLIT) or "").strip())
    if not places:
        raise InputError(
            f"{path}: none of its {counted(strange, 'tile id')} is in {index.folder}: is it that set's file?"
        )
    labels, names = _classes(path, columns, cells) if kind == "classification" else _numbers(path, kind, columns, cells)
    row_N = index.row[np.array(places)]
    order = np.argsort(row_N)
    source = RowLabels(np.ascontiguousarray(row_N[order]), np.ascontiguousarray(labels[order]), names, kind)
    split_of = {
        name: np.sort(np.array([place for place, own in zip(places, splits, strict=True) if own == name], np.int64))
        for name in dict.fromkeys(splits)
        if name
    }
    notes = (f"{path}: {counted(strange, 'tile id')} not in {index.folder}, left out",) if strange else ()
    return LabelFile(source, split_of, notes)


Line = tuple[int, list[str]]


def _lines(path: Path) -> tuple[list[tuple[int, dict[str, str]]], list[str]]:
    """The numbered lines, and the columns that hold labels."""
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
    if ID not in header:
        raise InputError(f"{path}: no column {ID!r}{did_you_mean(ID, header)}: its first line names the columns")
    if len(set(header)) != len(header):
        raise InputError(f"{path}: two columns have the same name: rename one")
    for number, line in lines:
        if None in line or None in line.values():
            raise InputError(f"{path}:{number}: this line has not the {len(header)} columns of the first line")
    columns = [name for name in header if name not in {ID, SPLIT}]
    if not columns:
        raise InputError(f"{path}: no column holds labels: add a column {LABEL!r}")
    return lines, columns


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
