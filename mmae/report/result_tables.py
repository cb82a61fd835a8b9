"""Tables that other commands wrote as JSON (`--json FILE`): probes, fine-tunings, benchmarks, baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mmae.disk.json_text import parse_json
from mmae.disk.regular_file import read_regular
from mmae.errors import InputError
from mmae.report.page.markup import el, table
from mmae.report.page.ticks import linear_ticks, short

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_ENDS: Final = (("low", "high"), ("lower", "upper"))
_VALUES: Final = ("value", "score", "mean", "test")
_MOST_ROWS: Final = 200
_LEFT, _WIDTH, _ROW = 190, 460, 22


@dataclass(frozen=True)
class Results:
    """The table of one file: rows with their values by name."""

    title: str
    rows: Sequence[Mapping[str, Any]]
    notes: Sequence[str]


def read_results(path: Path) -> Results:
    """The table that a command's `--json` wrote.

    Raises:
        InputError: the file is missing, or holds no table.
    """
    try:
        content = parse_json(read_regular(path))
    except OSError as error:
        raise InputError(f"--results {path}: cannot be read ({error.strerror}): give what --json wrote") from None
    except ValueError:
        content = None
    rows = content.get("rows", [content]) if isinstance(content, dict) else content
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"--results {path}: holds no rows: give what --json of mmae probe or mmae baseline wrote")
    about = content if isinstance(content, dict) else {}
    notes = about.get("notes", [])
    return Results(
        str(about.get("title", path.stem)), rows, [str(note) for note in notes] if isinstance(notes, list) else []
    )


def constants_of(results: Sequence[Results]) -> dict[str, float]:
    """Output -> loss of the best constant, where a table is that of `mmae baseline`."""
    return {
        str(row["output"]): float(row["constant"])
        for each in results
        for row in each.rows
        if "output" in row and isinstance(row.get("constant"), int | float)
    }


def results_figure(results: Results) -> Element:
    """The table, and where rows hold a value with an interval, a drawing of them."""
    headings = list(dict.fromkeys(str(key) for row in results.rows for key in row))
    rows = [[_cell(row.get(key)) for key in headings] for row in results.rows[:_MOST_ROWS]]
    caption = results.title + (f" (the first {_MOST_ROWS} rows)" if len(results.rows) > _MOST_ROWS else "")
    notes = [el("p", note) for note in results.notes]
    return el("figure", el("figcaption", results.title), _drawing(results), table(headings, rows, caption), *notes)


def _drawing(results: Results) -> Element | None:
    """A dot and a line from low to high for each row that has them."""
    found = [(row, interval) for row in results.rows[:40] if (interval := _interval(row)) is not None]
    if not found:
        return None
    low = min(interval[1] for _, interval in found)
    high = max(interval[2] for _, interval in found)
    span = (high - low) or 1.0

    def x(value: float) -> float:
        return round(_LEFT + (value - low) / span * (_WIDTH - _LEFT - 20), 1)

    height = len(found) * _ROW + 44
    drawing = el("svg", el("title", results.title), viewBox=f"0 0 {_WIDTH} {height}", role="img")
    drawing.append(el("desc", "A dot for each value and a line for its interval; the table below holds the numbers."))
    bottom = height - 36
    for tick in linear_ticks(low, high, 4):
        drawing.append(el("line", x1=x(tick), x2=x(tick), y1=4, y2=bottom, class_="grid"))
        drawing.append(el("text", short(tick), x=x(tick), y=bottom + 16, text_anchor="middle"))
    drawing.append(el("text", "score, with its interval", x=(_LEFT + _WIDTH) / 2, y=height - 4, text_anchor="middle"))
    for number, (row, (value, start, end)) in enumerate(found):
        y = number * _ROW + 16
        name = " ".join(str(item) for item in row.values() if isinstance(item, str))[:28]
        drawing.append(el("text", name, x=_LEFT - 8, y=y + 4, text_anchor="end"))
        drawing.append(el("path", d=f"M{x(start)} {y}H{x(end)}", class_="line c0"))
        drawing.append(el("circle", cx=x(value), cy=y, r=4, class_="f0"))
    return drawing


def _interval(row: Mapping[str, Any]) -> tuple[float, float, float] | None:
    value = next((row[name] for name in _VALUES if isinstance(row.get(name), int | float)), None)
    for low, high in _ENDS:
        start, end = row.get(low), row.get(high)
        if isinstance(value, int | float) and isinstance(start, int | float) and isinstance(end, int | float):
            return float(value), float(start), float(end)
    return None


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return short(value)
    return str(value)[:200]
