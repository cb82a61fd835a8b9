"""One table for people and for programs: the same rows are printed, and written as JSON."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mmae.disk.files import atomic_file, check_place, writing
from mmae.errors import InputError
from mmae.terminal.printable import printable

if TYPE_CHECKING:
    import argparse

Value = str | int | float | None
WIDTH: Final = 100
"""Characters in a line of a terminal."""
_JSON: Final = "--json"


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        key: the key of its value in a row and in the JSON.
        heading: says the unit of the values too.
        form: how a value is printed.
        wraps: whether long text is broken into several lines, so that the table fits a terminal.
    """

    key: str
    heading: str
    form: str = "{}"
    wraps: bool = False


@dataclass(frozen=True)
class Table:
    """Rows are mappings from the columns' keys; a value that is absent or None prints as a dash.

    Attributes:
        keys: the number of first columns that identify a row. A table that is wider than `WIDTH` is printed in parts,
            and each part begins with these columns.
    """

    title: str
    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Value]]
    notes: Sequence[str] = ()
    keys: int = 1

    def noting(self, more: Sequence[str]) -> Table:
        """The same table with more notes."""
        return replace(self, notes=(*self.notes, *more))

    def text(self) -> str:
        """The table in Markdown, which a terminal shows well too, and the notes under it."""
        parts = [line for columns in self._parts() for line in ["", *self._lines(columns)]]
        return "\n".join([f"# {printable(self.title)}", *parts[1:], "", *self._note_lines()])

    def _note_lines(self) -> Iterator[str]:
        """The notes in lines of at most `WIDTH`. One behind an empty note is a command to copy, and stays whole."""
        for before, note in pairwise([None, *self.notes]):
            text = printable(note or "")
            yield from [text] if before == "" or len(text) <= WIDTH else _broken(text)

    def _parts(self) -> Iterator[Sequence[Column]]:
        """The columns that are printed side by side."""
        part = list(self.columns[: self.keys])
        for column in self.columns[self.keys :]:
            if len(part) > self.keys and len(self._lines([*part, column])[0]) > WIDTH:
                yield part
                part = list(self.columns[: self.keys])
            part.append(column)
        yield part

    def _lines(self, columns: Sequence[Column]) -> list[str]:
        cells = [[_cell(row.get(column.key), column.form) for column in columns] for row in self.rows]
        headings = [column.heading for column in columns]
        cells = _wrapped(cells, _limits(_widths(headings, cells), [column.wraps for column in columns]))
        widths = _widths(headings, cells)
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
    parser.add_argument(_JSON, metavar="FILE", type=Path, help="also write the table there; it must not exist yet")


def check_json_path(path: Path | None, option: str = _JSON) -> None:
    """Refuse a file that could not be written at the end, before time is spent on the table.

    Args:
        option: the option that named the file, for the message.

    Raises:
        InputError: it exists, or its folder does not, or nothing can be written there.
    """
    if path is None:
        return
    if os.path.lexists(path):
        raise InputError(f"{option} {path}: exists already: choose another name, or remove it")
    if not path.absolute().parent.is_dir():
        raise InputError(f"{option} {path}: there is no folder {path.absolute().parent}: make it first")
    check_place(path, f"{option} {path}", "choose another place")


def report(table: Table, path: Path | None, facts: Mapping[str, object]) -> None:
    """Print the table and write its JSON.

    Raises:
        InputError: the file has been created since, or cannot be written; the table is printed first.
    """
    print(table.text())
    if path is None:
        return
    write_json(path, table.json(facts))


def write_json(path: Path, text: str, option: str = _JSON) -> None:
    """Write what `--json`, or another option, asked for, whole or not at all.

    Args:
        option: the option that named the file, for the message.

    Raises:
        InputError: the file has been created since, or cannot be written.
    """
    with writing(f"{option} {path}", "make room, or choose another name"), atomic_file(path, replace=False) as file:
        file.write(text.encode())


def _broken(text: str) -> list[str]:
    # Words stay whole: one may be a path.
    return textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float)


def _widths(headings: Sequence[str], cells: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(headings, *cells, strict=True)]


def _limits(widths: Sequence[int], wraps: Sequence[bool]) -> dict[int, int]:
    """Column number -> the width that its text is wrapped to."""
    borders = 3 * len(widths) + 1
    left = WIDTH - borders - sum(width for width, wrap in zip(widths, wraps, strict=True) if not wrap)
    limits: dict[int, int] = {}
    # The narrowest comes first, and leaves the width that it does not need to the others.
    wrapping = sorted((width, number) for number, width in enumerate(widths) if wraps[number])
    for done, (width, number) in enumerate(wrapping):
        limits[number] = max(1, min(width, left // (len(wrapping) - done)))
        left -= limits[number]
    return limits


def _wrapped(cells: Sequence[Sequence[str]], limits: Mapping[int, int]) -> list[list[str]]:
    """The cells in as many lines as their text needs. Words stay whole: one may be a path, or part of a command."""

    def broken(number: int, cell: str) -> list[str]:
        if number not in limits:
            return [cell]
        return textwrap.wrap(cell, limits[number], break_long_words=False, break_on_hyphens=False)

    lines: list[list[str]] = []
    for row in cells:
        columns = [broken(number, cell) or [""] for number, cell in enumerate(row)]
        lines += map(list, zip_longest(*columns, fillvalue=""))
    return lines


def _cell(value: Value, form: str) -> str:
    return "-" if value is None else printable(form.format(value))
