"""One table for people and for programs: the same rows printed, and written as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mmae.disk.files import atomic_file, check_place, writing
from mmae.errors import InputError
from mmae.terminal.printable import printable

if TYPE_CHECKING:
    import argparse

Value = str | int | float | None
WIDTH: Final = 100
"""Letters of a terminal."""


@dataclass(frozen=True)
class Column:
    """A column: its key in a row (and in the JSON), its heading, and how its numbers are printed."""

    key: str
    heading: str
    form: str = "{}"


@dataclass(frozen=True)
class Table:
    """Rows are mappings from the columns' keys; a value that is absent or None prints as a dash.

    Attributes:
        keys: so many columns say what a row is: a table that is wider than `WIDTH` is printed in parts, each with them;
            0 prints it whole.
    """

    title: str
    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Value]]
    notes: Sequence[str] = ()
    keys: int = 0

    def noting(self, more: Sequence[str]) -> Table:
        """The same table with more notes."""
        return replace(self, notes=(*self.notes, *more))

    def text(self) -> str:
        """The table in Markdown, which a terminal shows well too, and the notes under it."""
        parts = [line for columns in self._parts() for line in ["", *self._lines(columns)]]
        return "\n".join([f"# {printable(self.title)}", *parts[1:], "", *map(printable, self.notes)])

    def _parts(self) -> Iterator[Sequence[Column]]:
        """The columns that stand side by side."""
        part = list(self.columns[: self.keys])
        for column in self.columns[self.keys :]:
            if self.keys and len(part) > self.keys and len(self._lines([*part, column])[0]) > WIDTH:
                yield part
                part = list(self.columns[: self.keys])
            part.append(column)
        yield part

    def _lines(self, columns: Sequence[Column]) -> list[str]:
        cells = [[_cell(row.get(column.key), column.form) for column in columns] for row in self.rows]
        headings = [column.heading for column in columns]
        widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
        right = [any(_is_number(row.get(column.key)) for row in self.rows) for column in columns]

        def line(words: Sequence[str]) -> str:
            padded = (
                word.rjust(width) if number else word.ljust(width)
                for word, width, number in zip(words, widths, right, strict=True)
            )
            return f"| {' | '.join(padded)} |"

        rule = ["-" * (width - 1) + ":" if number else "-" * width for width, number in zip(widths, right, strict=True)]
        return [line(headings), line(rule), *map(line, cells)]

    def json(self, facts: Mapping[str, object]) -> str:
        """Title, rows (by key), notes, and facts about where they were taken, as standard JSON."""
        rows = [{column.key: row.get(column.key) for column in self.columns} for row in self.rows]
        content = {"title": self.title, "rows": rows, "notes": list(self.notes), **facts}
        return json.dumps(content, indent=1, allow_nan=False) + "\n"


def add_json_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the table there too; it must not exist yet")


def check_json_path(path: Path | None) -> None:
    """Refuse a file that could not be written at the end, before the time is spent.

    Raises:
        InputError: it exists, or its folder does not, or nothing can be written there.
    """
    if path is None:
        return
    if os.path.lexists(path):
        raise InputError(f"--json {path}: exists already: choose another name, or remove it")
    if not path.absolute().parent.is_dir():
        raise InputError(f"--json {path}: there is no folder {path.absolute().parent}: make it first")
    check_place(path, f"--json {path}", "choose another place")


def report(table: Table, path: Path | None, facts: Mapping[str, object]) -> None:
    """Print the table and write its JSON.

    Raises:
        InputError: the file appeared meanwhile, or cannot be written; the table is printed first.
    """
    print(table.text())
    if path is None:
        return
    write_json(path, table.json(facts))


def write_json(path: Path, text: str) -> None:
    """Write what `--json` asked for, whole or not at all.

    Raises:
        InputError: the file appeared meanwhile, or cannot be written.
    """
    with writing(f"--json {path}", "make room, or choose another name"), atomic_file(path, replace=False) as file:
        file.write(text.encode())


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float)


def _cell(value: Value, form: str) -> str:
    return "-" if value is None else printable(form.format(value))
