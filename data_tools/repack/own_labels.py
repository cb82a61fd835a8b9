"""Labels of one's own for the tiles of a source, from a file: `mmae repack --labels FILE`.

A column is a label, and its name the label's. A column whose cells are all numbers holds numbers, any other holds names
of classes. Columns NAME:PART together are one label of several numbers: 0 or 1 for each of several classes, or values.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xxhash

from mmae.data.label_files.label_lines import LabelLines, class_names, number_of, read_label_lines
from mmae.data.shards.index_labels import (
    LABEL_NAME,
    LONGEST_NAME,
    MOST_NAMES,
    LabelInfo,
    TileLabels,
    stored_labels,
    words_of,
)
from mmae.errors import InputError
from mmae.modalities import MODALITIES
from mmae.terminal.plurals import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from data_tools.source.dataset import Source

_KEY: Final = "--labels"
_SPLIT: Final = "split"
_LARGEST: Final = float(np.finfo(np.float32).max)
_ELSEWHERE: Final = ("elevation", "worldcover")
"""Names that fine-tuning has for modalities, beside the modalities' and datasets' own."""


@dataclass(frozen=True, eq=False)
class OwnLabels:
    """What a file says of the rows (R) of a source.

    Attributes:
        labels: name -> the label of all rows.
        notes: what it holds, and what did not fit together, in words.
    """

    labels: Mapping[str, TileLabels]
    notes: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """Identity of the labels: the same for the same labels of the same rows, in whatever file."""
        head = json.dumps(stored_labels({name: label.info for name, label in self.labels.items()}))
        return xxhash.xxh3_64_hexdigest(
            head.encode() + b"".join(each.value_N.tobytes() for each in self.labels.values())
        )

    def of_rows(self, rows: NDArray[np.int64]) -> dict[str, TileLabels]:
        """The labels of some rows."""
        return {name: TileLabels(each.info, each.value_N[rows]) for name, each in self.labels.items()}


_Line = tuple[int, dict[str, str]]


def read_own_labels(path: Path, source: Source) -> OwnLabels:
    """The labels that a file has for the tiles of a source that are in a split.

    Raises:
        InputError: the file cannot be read, names a tile twice or none of the source's, a label has the name of a
            modality or dataset, no tile has a label, or a cell cannot be what its column is.
    """
    found = read_label_lines(path, _KEY)
    columns_of = _labels_of(path, found.columns, source)
    line_of = _lines_of(path, found)
    rows = np.sort(np.concatenate(list(source.splits.values())))
    own = [(row, line_of[source.tile_ids[row]]) for row in rows.tolist() if source.tile_ids[row] in line_of]
    if not own:
        raise InputError(
            f"{path}: none of its {counted(len(line_of), 'tile id')} is in a split of {source.path.name}: is it that "
            "set's file?"
        )
    strange = len(line_of) - len({line[found.own] for _, (_, line) in own})
    lines = [line for _, line in own]
    at = np.array([row for row, _ in own], np.int64)
    labels = {name: _label(path, name, columns, lines, at, source.info.rows) for name, columns in columns_of.items()}
    return OwnLabels(labels, tuple(_notes(path, labels, strange, len(rows) - len(own), len(rows))))


def _labels_of(path: Path, columns: Sequence[str], source: Source) -> dict[str, list[str]]:
    """Name of a label -> its columns."""
    taken = {*MODALITIES, *_ELSEWHERE, *source.datasets, *source.left_out}
    found: dict[str, list[str]] = {}
    for column in columns:
        name, colon, part = column.partition(":")
        if name == _SPLIT:
            raise InputError(
                f"{path}: the column {_SPLIT!r} would be no label: leave it out, and give splits with --splits FILE"
            )
        if name in taken:
            raise InputError(
                f"{path}: the column {column!r} has the name of a modality or dataset: rename it, or leave it out"
            )
        if not LABEL_NAME.fullmatch(name) or (colon and not 0 < len(part.strip()) <= LONGEST_NAME):
            raise InputError(
                f"{path}: the column {column!r} cannot be a label: name it with letters, digits and _, or NAME:PART"
            )
        if name in found and not (colon and ":" in found[name][0]):
            raise InputError(f"{path}: there are a column {name!r} and columns {name}:PART: rename one of them")
        found.setdefault(name, []).append(column)
    if not found:
        raise InputError(f"{path}: no column holds labels: add one beside the tile ids")
    return found


def _lines_of(path: Path, found: LabelLines) -> dict[str, _Line]:
    line_of: dict[str, _Line] = {}
    for number, line in found.lines:
        tile = line[found.own]
        if tile in line_of:
            raise InputError(f"{path}:{number}: tile {tile!r} stands in line {line_of[tile][0]} too: keep one of them")
        line_of[tile] = (number, line)
    return line_of


def _label(
    path: Path, name: str, columns: Sequence[str], lines: Sequence[_Line], at: NDArray[np.int64], rows: int
) -> TileLabels:
    parted = ":" in columns[0]
    numbers = [[number_of(line[column]) for _, line in lines if line[column]] for column in columns]
    if not parted and any(number is None for number in numbers[0]):
        return _classes(path, name, [line[name] for _, line in lines], at, rows)
    value_RP: NDArray[Any] = np.full((rows, len(columns)), np.nan)
    for place, column in enumerate(columns):
        for row, (number, line) in zip(at.tolist(), lines, strict=True):
            value = number_of(line[column]) if line[column] else math.nan
            if value is None or abs(value) > _LARGEST:
                raise InputError(
                    f"{path}:{number}: {column}={line[column]!r} is not a finite number of float32: write one, "
                    "or leave it empty"
                )
            value_RP[row, place] = value
    if np.isnan(value_RP).all():
        raise InputError(f"{path}: {name} has no value for any tile of the source: leave the column out")
    parts = tuple(column.partition(":")[2].strip() for column in columns) if parted else (name,)
    if len(set(parts)) != len(parts) or len(parts) > MOST_NAMES:
        raise InputError(f"{path}: two columns of {name} have the same name, or there are more than {MOST_NAMES}")
    return TileLabels(LabelInfo(parts=parts), value_RP)


def _classes(path: Path, name: str, cells: Sequence[str], at: NDArray[np.int64], rows: int) -> TileLabels:
    names = class_names(cells)
    if len(names) > MOST_NAMES or (long := [each for each in names if len(each) > LONGEST_NAME]):
        what = f"{len(names)} classes" if len(names) > MOST_NAMES else f"a class with a name of {len(long[0])} letters"
        raise InputError(
            f"{path}: {name} has {what}, at most {MOST_NAMES} classes and {LONGEST_NAME} letters are taken: leave "
            "the column out"
        )
    ids = {each: number for number, each in enumerate(names)}
    value_R = np.full(rows, -1, np.int32)
    value_R[at] = [ids.get(cell, -1) for cell in cells]
    return TileLabels(LabelInfo(classes=names), value_R)


def _notes(path: Path, labels: Mapping[str, TileLabels], strange: int, without: int, tiles: int) -> Iterator[str]:
    yield f"labels of {path}: {'; '.join(words_of({name: each.info for name, each in labels.items()}))}"
    if without:
        yield f"{without} of {counted(tiles, 'tile')} have no line in {path}: their labels are not known"
    if strange:
        yield f"{path}: {counted(strange, 'tile id')} in no split of the source, left out"
