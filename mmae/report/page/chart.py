"""A chart of lines as inline SVG, with a title, axes with units, events, a legend and its numbers as a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from mmae.report.page.markup import el, table
from mmae.report.page.style import LINES
from mmae.report.page.ticks import linear_ticks, log_ticks, short

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_WIDTH, _HEIGHT = 340, 214
_RIGHT, _TOP, _BOTTOM = 12, 10, 40
_NAME: Final = 24
"""Room for the name of the y axis; the numbers beside it take what they need."""
_DIGIT: Final = 7.2
_TABLE_ROWS: Final = 12


@dataclass(frozen=True)
class Line:
    """One line of a chart. A y that is None or not finite is a gap.

    Attributes:
        low, high: the range around each y, drawn as a band; empty: there is none.
        kind: decides colour and dashes; None: its place among the lines.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()
    kind: int | None = None

    def __len__(self) -> int:
        return sum(_is_number(y) for y in self.y)


@dataclass(frozen=True)
class Event:
    """Something that happened at a place of the x axis: `save`, `resume`, `stop` or `fault`."""

    x: float
    kind: str
    what: str


@dataclass(frozen=True)
class Chart:
    """What a chart shows; the axes' names hold their units.

    Attributes:
        note: a line below the title.
        from_zero: whether the y axis begins at 0.
        whole: whether the y axis counts, so that only whole numbers stand at it.
    """

    title: str
    x_name: str
    y_name: str
    lines: Sequence[Line]
    events: Sequence[Event] = field(default_factory=tuple)
    note: str = ""
    from_zero: bool = False
    log: bool = False
    whole: bool = False

    @property
    def has_numbers(self) -> bool:
        return any(map(len, self.lines))


def chart_figure(chart: Chart, class_: str | None = None) -> Element:
    """The chart as a figure; one without a number says so."""
    note = el("p", chart.note) if chart.note else None
    if not chart.has_numbers:
        return el("figure", el("figcaption", chart.title), note, el("p", "No number to draw."), class_=class_)
    numbers = el("details", el("summary", "Numbers"), _numbers(chart))
    return el("figure", el("figcaption", chart.title), note, _drawing(chart), _legend(chart), numbers, class_=class_)


def _drawing(chart: Chart) -> Element:
    axes = _Axes.of(chart)
    scale = ", logarithmic" if chart.log else ""
    drawing = el("svg", el("title", chart.title), viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img")
    drawing.append(el("desc", f"{chart.y_name}{scale} over {chart.x_name}. " + " ".join(map(_in_words, chart.lines))))
    drawing.extend(axes.drawn(chart))
    for event in chart.events:
        if axes.low_x <= event.x <= axes.high_x:
            x = axes.x(event.x)
            title = el("title", f"{event.kind} at {short(event.x)}: {event.what}")
            drawing.append(el("line", title, x1=x, x2=x, y1=_TOP, y2=_HEIGHT - _BOTTOM, class_=f"event {event.kind}"))
    for number, line in enumerate(chart.lines):
        kind = (number if line.kind is None else line.kind) % LINES
        if line.low and line.high:
            drawing.append(el("path", d=axes.band(line), class_=f"band f{kind}"))
        drawing.append(el("path", d=axes.path(line), class_=f"line c{kind}"))
    return drawing


@dataclass(frozen=True)
class _Axes:
    low_x: float
    high_x: float
    low_y: float
    high_y: float
    log: bool
    whole: bool

    @classmethod
    def of(cls, chart: Chart) -> _Axes:
        lines = [line for line in chart.lines if len(line)]
        xs = [x for line in lines for x in line.x]
        ys = [y for line in lines for y in (*line.y, *line.low, *line.high) if y is not None and _is_number(y)]
        log = chart.log and min(ys) > 0
        low, high = min([*ys, 0.0] if chart.from_zero and not log else ys), max(ys)
        margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
        if log:
            low, high = low / 1.1, high * 1.1
        else:
            low, high = (low if low == 0 and chart.from_zero else low - margin), high + margin
        low_x, high_x = min(xs), max(xs)
        return cls(low_x, high_x if high_x > low_x else low_x + 1, low, high, log, chart.whole)

    @property
    def ticks_y(self) -> list[float]:
        found = (log_ticks if self.log else linear_ticks)(self.low_y, self.high_y)
        return [value for value in found if not self.whole or value == round(value)]

    @property
    def left(self) -> float:
        """Where the y axis stands: right of the longest of its numbers."""
        return round(_NAME + _DIGIT * max((len(short(value)) for value in self.ticks_y), default=1), 1)

    def x(self, value: float) -> float:
        share = (value - self.low_x) / (self.high_x - self.low_x)
        return round(self.left + share * (_WIDTH - self.left - _RIGHT), 1)

    def y(self, value: float) -> float:
        low, high, value = (math.log10(each) if self.log else each for each in (self.low_y, self.high_y, value))
        return round(_HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM), 1)

    def path(self, line: Line) -> str:
        words, drawing = [], False
        places = zip(line.x, line.y, strict=True)
        points = [(x, y if y is not None and _is_number(y) else None) for x, y in places]
        for at, (x, y) in enumerate(points):
            if y is None:
                drawing = False
                continue
            words.append(f"{'L' if drawing else 'M'}{self.x(x):g} {self.y(y):g}")
            alone = not drawing and (at + 1 == len(points) or points[at + 1][1] is None)
            if alone:
                words.append("m-3 0h6")
            drawing = True
        return "".join(words)

    def band(self, line: Line) -> str:
        found = [
            (x, low, high)
            for x, low, high in zip(line.x, line.low, line.high, strict=True)
            if low is not None and high is not None and _is_number(low) and _is_number(high)
        ]
        if not found:
            return ""
        upper = "L".join(f"{self.x(x):g} {self.y(high):g}" for x, _, high in found)
        lower = "L".join(f"{self.x(x):g} {self.y(low):g}" for x, low, _ in reversed(found))
        return f"M{upper}L{lower}z"

    def drawn(self, chart: Chart) -> list[Element]:
        left, bottom, right = self.left, _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
        parts = []
        for value in self.ticks_y:
            y = self.y(value)
            parts.append(el("line", x1=left, x2=right, y1=y, y2=y, class_="grid"))
            parts.append(el("text", short(value), x=left - 5, y=y + 4, text_anchor="end"))
        for value in linear_ticks(self.low_x, self.high_x):
            x = self.x(value)
            parts.append(el("line", x1=x, x2=x, y1=bottom, y2=bottom + 4, class_="axis"))
            anchor = "end" if x > right - 12 else "middle"
            parts.append(el("text", short(value), x=x, y=bottom + 17, text_anchor=anchor))
        parts.append(el("line", x1=left, x2=right, y1=bottom, y2=bottom, class_="axis"))
        parts.append(el("line", x1=left, x2=left, y1=_TOP, y2=bottom, class_="axis"))
        parts.append(el("text", chart.x_name, x=(left + right) / 2, y=_HEIGHT - 6, text_anchor="middle"))
        middle = (_TOP + bottom) / 2
        name = el("text", chart.y_name, x=12, y=middle, text_anchor="middle", transform=f"rotate(-90 12 {middle})")
        return [*parts, name]


def _legend(chart: Chart) -> Element | None:
    parts = [
        el("li", _sample(f"line c{(number if line.kind is None else line.kind) % LINES}"), f" {line.name}")
        for number, line in enumerate(chart.lines)
        if len(line)
    ]
    kinds = dict.fromkeys(event.kind for event in chart.events)
    parts += [el("li", _sample(f"event {kind}"), f" {kind}") for kind in kinds]
    return el("ul", *parts, class_="legend") if len(parts) > 1 else None


def _sample(class_: str) -> Element:
    line = el("path", d="M1 5H31", class_=class_) if class_.startswith("line") else el(
        "line", x1=16, x2=16, y1=0, y2=10, class_=class_
    )  # fmt: skip
    return el("svg", line, viewBox="0 0 32 10", aria_hidden="true")


def _in_words(line: Line) -> str:
    numbers = [y for y in line.y if y is not None and _is_number(y)]
    if not numbers:
        return f"{line.name}: no number."
    first, last = short(numbers[0]), short(numbers[-1])
    return f"{line.name}: from {first} to {last}, lowest {short(min(numbers))}, highest {short(max(numbers))}."


def _numbers(chart: Chart) -> Element:
    """Some of the numbers, spread evenly over the x axis."""
    xs = sorted({x for line in chart.lines for x in line.x})
    if len(xs) > _TABLE_ROWS:
        xs = [xs[round(at * (len(xs) - 1) / (_TABLE_ROWS - 1))] for at in range(_TABLE_ROWS)]
    known = [dict(zip(line.x, line.y, strict=True)) for line in chart.lines]
    rows = [[short(x), *(_nearest(line, of_line, x, xs) for line, of_line in zip(chart.lines, known, strict=True))]
            for x in xs]  # fmt: skip
    return table([chart.x_name, *(line.name for line in chart.lines)], rows, f"{chart.title}: {chart.y_name}")


def _nearest(line: Line, known: dict[float, float | None], x: float, xs: Sequence[float]) -> str:
    """The number at x; of lines with other steps the one nearest by, within half the distance of two rows."""
    if x not in known and line.x:
        near = min(line.x, key=lambda each: abs(each - x))
        gap = min((later - earlier for earlier, later in pairwise(xs)), default=0)
        x = near if abs(near - x) <= gap / 2 else x
    value = known.get(x)
    return short(value) if value is not None and _is_number(value) else "-"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
