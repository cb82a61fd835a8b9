"""The lines of a file of labels, CSV or Parquet, as text."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mmae.disk.regular_file import read_regular
from mmae.errors import InputError, did_you_mean

ID: Final = "tile_id"
IMAGE: Final = "image"
"""Another name of that column, for tiles that are images in a folder."""
MOST_CLASSES: Final = 10_000

_PARQUET: Final = b"PAR1"
_PANDAS_INDEX: Final = re.compile(r"__index_level_\d+__")
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


@dataclass(frozen=True)
class LabelLines:
    """What stands in a file.

    Attributes:
        own: the column that names tiles.
        columns: the other columns, in their order.
        lines: number and cells of each line, without space around a cell; empty where nothing is said. Lines of a
            Parquet file are counted from 1.
    """

    own: str
    columns: tuple[str, ...]
    lines: tuple[tuple[int, dict[str, str]], ...]


def read_label_lines(path: Path, key: str) -> LabelLines:
    """The lines of a CSV file, or of a Parquet file (which needs pyarrow).

    Args:
        key: of the recipe or command line that names the file, for messages.

    Raises:
        InputError: the file cannot be read, has no column `tile_id` or `image`, or two columns of one name.
    """
    try:
        content = read_regular(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): give {key} a CSV or Parquet file") from None
    header, lines = _parquet(path, content) if content.startswith(_PARQUET) else _csv(path, content, key)
    own = next((name for name in (ID, IMAGE) if name in header), None)
    if own is None:
        where = "" if content.startswith(_PARQUET) else ": its first line names the columns"
        raise InputError(f"{path}: no column {ID!r}{did_you_mean(ID, header)}{where}")
    if len(set(header)) != len(header):
        raise InputError(f"{path}: two columns have the same name: rename one")
    return LabelLines(own, tuple(name for name in header if name != own), tuple(lines))


def number_of(text: str) -> float | None:
    """The number that a cell holds, which may be infinite; None if it holds none. `nan` is a number, and not finite."""
    if text.lower() == "nan":
        return math.nan
    if text.lower().lstrip("+-") in {"inf", "infinity"}:
        return math.inf
    return float(text) if _NUMBER.fullmatch(text) else None


def class_names(said: Iterable[str]) -> tuple[str, ...]:
    """The names of classes among some cells, each once: numbers first, in their order. Cells without one are left out.

    A cell with `nan`, as some programs write, is without one.
    """
    return tuple(sorted({name for name in said if name and name.lower() != "nan"}, key=_as_number))


def _as_number(name: str) -> tuple[float, str]:
    """Sorts `10` behind `9`."""
    return (float(name), name) if name.isascii() and name.isdigit() else (math.inf, name)


def _csv(path: Path, content: bytes, key: str) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    try:
        text = content.decode("utf-8-sig")
    except ValueError:
        raise InputError(f"{path}: not UTF-8 text: give {key} a CSV or Parquet file") from None
    try:
        reader = csv.DictReader(text.splitlines(), strict=True)
        header = [name.strip() for name in reader.fieldnames or ()]
        reader.fieldnames = header
        lines = [(reader.line_num, line) for line in reader]
    except csv.Error as error:
        raise InputError(f"{path}: not a CSV file: {error}") from None
    for number, line in lines:
        if None in line or None in line.values():
            raise InputError(f"{path}:{number}: this line has not the {len(header)} columns of the first line")
    return header, [(number, {name: cell.strip() for name, cell in line.items()}) for number, line in lines]


def _parquet(path: Path, content: bytes) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise InputError(f"{path}: needs pyarrow, which is not installed: pip install 'mmae[geo]'") from None
    try:
        table = pyarrow.parquet.read_table(pyarrow.BufferReader(content))
        columns = {
            name: [_text(path, name, value) for value in column.to_pylist()]
            for name, column in zip(table.column_names, table.columns, strict=True)
            if not _PANDAS_INDEX.fullmatch(name)
        }
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as Parquet ({str(error).splitlines()[0][:200]})") from None
    header = [name for name in table.column_names if not _PANDAS_INDEX.fullmatch(name)]
    rows = zip(*columns.values(), strict=True)
    return header, [(number, dict(zip(columns, row, strict=True))) for number, row in enumerate(rows, 1)]


def _text(path: Path, column: str, value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    if isinstance(value, int | str):
        return str(value).strip()
    raise InputError(
        f"{path}: column {column!r} holds values of type {type(value).__name__}: write text or numbers; several "
        "classes a tile are a column each, with 0 or 1"
    )
