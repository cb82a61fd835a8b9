"""The table of scores: a CSV file that is whole at any time, and to which each finished row is added at once.

The first columns are those of the GEO-Bench-2 leaderboard. A row is found again by its key, so that the same command
goes on where it was interrupted.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mmae.disk.file_lock import LockedFile
from mmae.disk.files import check_place, write_whole, writing
from mmae.disk.regular_file import read_regular_text
from mmae.errors import InputError

LEADERBOARD: Final = (
    "dataset", "Metric", "experiment_name", "partition name", "backbone", "decoder", "batch_size_selection",
    "early_stop_patience", "n_trials", "Seed", "data_percentages", "batch_size", "weight_decay", "lr", "test metric",
)  # fmt: skip
OURS: Final = (
    "suite", "test split", "ci low", "ci high", "normalised", "published worst", "published best", "val metric",
    "other metrics", "choice", "modalities", "level", "normalisation", "window", "train samples", "test samples",
    "test without data", "places known", "near pretraining", "seconds", "tiles/s", "peak memory MB", "model", "data",
    "protocol", "mmae version",
)  # fmt: skip
COLUMNS: Final = (*LEADERBOARD, *OURS)
KEY: Final = ("suite", "dataset", "test split", "partition name", "decoder", "Seed", "model", "data", "protocol")

_REMEDY: Final = "make room, or choose another --out; the same command then goes on"

Row = Mapping[str, str]


class ResultRows:
    """The rows of a file; use `open_rows`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows = _read(path)

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows.values())

    def has(self, key: Mapping[str, object]) -> bool:
        """Whether a row is there.

        Args:
            key: value of each column of `KEY`.
        """
        return _key(key) in self._rows

    def amend(self, key: Mapping[str, object], found: Mapping[str, object]) -> None:
        """Add what was not asked for before to a row that is there, and write the file anew if that changes it.

        Args:
            found: columns that do not belong to the key.

        Raises:
            InputError: it cannot be written.
        """
        row = self._rows[_key(key)]
        if any(row[name] != _cell(value) for name, value in found.items()):
            self.add({**row, **found})

    def add(self, row: Mapping[str, object]) -> None:
        """Add a row, and write the file anew, whole or not at all.

        Raises:
            InputError: it cannot be written.
        """
        if unknown := row.keys() - set(COLUMNS):
            raise ValueError(f"no columns {sorted(unknown)}")
        # A line break in a name from a file would end the row.
        text = {name: _cell(row.get(name)) for name in COLUMNS}
        self._rows[tuple(text[name] for name in KEY)] = text
        with writing(self.path, _REMEDY):
            write_whole(self.path, _csv(self._rows.values()))


@contextmanager
def open_rows(path: Path) -> Iterator[ResultRows]:
    """The rows of a file, new or left by an earlier start. No other process writes it meanwhile.

    Raises:
        InputError: the file is no table of this command's, cannot be written, or another process writes it.
    """
    check_place(path, f"--out {path}", "choose another place")
    _read(path)
    with writing(path, _REMEDY):
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
        lock = LockedFile(path.absolute().with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT)
    try:
        if lock.try_lock(exclusive=True) is False:
            raise InputError(f"--out {path}: another process writes it: wait for it, or choose another --out")
        yield ResultRows(path)
    finally:
        lock.close()


def _read(path: Path) -> dict[tuple[str, ...], Row]:
    try:
        text = read_regular_text(path)
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--out {path} cannot be read ({error}): choose another name") from None
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise InputError(f"--out {path} is no CSV ({error}): choose another name, or remove it") from None
    if not lines or tuple(lines[0]) != COLUMNS or any(len(line) != len(COLUMNS) for line in lines):
        raise InputError(f"--out {path} has other columns than mmae benchmark writes: choose another name")
    rows = [dict(zip(COLUMNS, line, strict=True)) for line in lines[1:]]
    return {tuple(row[name] for name in KEY): row for row in rows}


def _key(key: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(_cell(key[name]) for name in KEY)


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else " ".join(str(value).split())


def _csv(rows: object) -> str:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)  # type: ignore[arg-type]
    return out.getvalue()
