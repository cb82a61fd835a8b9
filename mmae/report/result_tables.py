"""Tables of scores on a page, and a drawing of what has an interval: one for each metric, never two on one axis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from mmae.report.page.markup import el, table
from mmae.report.page.ticks import linear_ticks, short

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from mmae.report.result_files import Results, Row

_ENDS: Final = (("low", "high"), ("lower", "upper"))
_VALUES: Final = ("score", "value", "mean", "test")
_FIRST: Final = (
    "step", "seed", "task", "dataset", "part", "labels", "method", "features", "metric", "score", "low", "high",
)  # fmt: skip
"""Columns that a reader looks for, in this order; where there are scores, the others are in a second table."""
_MOST_ROWS: Final = 200
_MOST_DRAWN: Final = 40
_MOST_DRAWINGS: Final = 24
_LEFT, _WIDTH, _ROW = 170, 340, 20
_LETTERS: Final = 25

Interval = tuple[float, float, float]


def constants_of(results: Sequence[Results]) -> dict[str, float]:
    """Output -> loss of the best constant, where a table is that of `mmae baseline`; of two that differ, neither."""
    found: dict[str, set[float]] = {}
    for each in results:
        for row in each.rows:
            if "output" in row and (constant := _finite(row.get("constant"))) is not None:
                found.setdefault(str(row["output"]), set()).add(constant)
    return {output: constants.pop() for output, constants in found.items() if len(constants) == 1}


def results_figures(results: Results) -> Element:
    """A heading, a drawing for each task and metric whose rows have intervals, and the table."""
    keys = list(dict.fromkeys(str(key) for row in results.rows for key in row))
    chosen = [key for key in _FIRST if key in keys] if "score" in keys else keys
    others = [key for key in keys if key not in chosen]
    caption = f"The first {_MOST_ROWS} of {len(results.rows)} rows" if len(results.rows) > _MOST_ROWS else None
    more = el("details", el("summary", "All columns"), _table(results.rows, keys, caption)) if others else None
    drawings = el("div", *_drawings(results), class_="figures")
    notes = [el("p", note) for note in results.notes]
    return el(
        "div", el("h3", results.title), drawings if len(drawings) else None,
        _table(results.rows, chosen, caption), more, *notes,
    )  # fmt: skip


def _table(rows: Sequence[Row], keys: Sequence[str], caption: str | None) -> Element:
    lines = [[_cell(row.get(key)) for key in keys] for row in rows[:_MOST_ROWS]]
    return table([key.replace("_", " ") for key in keys], lines, caption)


def _drawings(results: Results) -> list[Element]:
    groups: dict[tuple[str, str], list[tuple[Row, Interval]]] = {}
    for row in results.rows:
        if (interval := _interval(row)) is not None:
            groups.setdefault((_what(row), str(row.get("metric") or "score")), []).append((row, interval))
    some = list(groups.items())[:_MOST_DRAWINGS]
    return [_drawing(what, metric, found[:_MOST_DRAWN]) for (what, metric), found in some]


def _what(row: Row) -> str:
    """What a row is a score of. Rows without a metric stand together."""
    return str(row.get("task") or row.get("dataset") or "").replace("_", " ") if row.get("metric") else ""


def _drawing(what: str, metric: str, found: Sequence[tuple[Row, Interval]]) -> Element:
    """A dot and a line from low to high for each row."""
    title = f"{what}: {metric}" if what else metric
    low, high = min(each[1] for _, each in found), max(each[2] for _, each in found)
    span = (high - low) or 1.0

    def x(value: float) -> float:
        return round(_LEFT + (value - low) / span * (_WIDTH - _LEFT - 20), 1)

    height = len(found) * _ROW + 44
    drawing = el("svg", el("title", title), viewBox=f"0 0 {_WIDTH} {height}", role="img")
    drawing.append(el("desc", "; ".join(_in_words(row, each) for row, each in found)))
    bottom = height - 36
    for tick in linear_ticks(low, high, 3):
        drawing.append(el("line", x1=x(tick), x2=x(tick), y1=4, y2=bottom, class_="grid"))
        drawing.append(el("text", short(tick), x=x(tick), y=bottom + 16, text_anchor="middle"))
    axis = f"{metric}, with its interval"
    drawing.append(el("text", axis, x=_WIDTH - 4, y=height - 4, text_anchor="end"))
    for number, (row, (value, start, end)) in enumerate(found):
        y = number * _ROW + 16
        drawing.append(el("text", _name(row)[:_LETTERS], x=_LEFT - 8, y=y + 4, text_anchor="end"))
        drawing.append(el("path", d=f"M{x(start)} {y}H{x(end)}", class_="line c0"))
        drawing.append(el("circle", cx=x(value), cy=y, r=4, class_="f0"))
    return el("figure", el("figcaption", title), drawing)


def _name(row: Row) -> str:
    """What tells a row from the others of its drawing."""
    words = [f"step {row['step']}"] if row.get("step") is not None else []
    left_out = {"task", "dataset", "metric"} if row.get("metric") else set()
    keys = [key for key in _FIRST if isinstance(row.get(key), str) and key not in left_out]
    words += [str(row[key]) for key in keys] or [str(item) for item in row.values() if isinstance(item, str)][:2]
    # The features tell more than the step, where there is no room for both.
    return " ".join(reversed(words)).replace("_", " ")


def _in_words(row: Row, interval: Interval) -> str:
    value, low, high = map(short, interval)
    return f"{_name(row)}: {value} ({low} to {high})"


def _interval(row: Mapping[str, Any]) -> Interval | None:
    value = next((number for name in _VALUES if (number := _finite(row.get(name))) is not None), None)
    for low, high in _ENDS:
        start, end = _finite(row.get(low)), _finite(row.get(high))
        if value is not None and start is not None and end is not None:
            return value, min(start, value), max(end, value)
    return None


def _finite(value: Any) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
    return float(value) if known and math.isfinite(value) else None


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return short(value)
    return str(value)[:200]
