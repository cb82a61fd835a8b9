"""Horizontal bars as inline SVG: counts or shares by name, with their numbers as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from mmae.report.page.markup import el, table
from mmae.report.page.style import LINES
from mmae.report.page.ticks import linear_ticks, short

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_WIDTH, _LEFT, _RIGHT = 340, 172, 14
_BAR, _GAP = 12, 8
_NAME: Final = 26
"""Letters of a name that have room beside its bar."""


def bar_figure(title: str, unit: str, names: Sequence[str], groups: Sequence[tuple[str, Sequence[float]]]) -> Element:
    """A figure with a bar for each name and group.

    Args:
        unit: what the numbers are, with its unit.
        groups: each with its name, and a number for each name.
    """
    numbers = [number for _, of_group in groups for number in of_group]
    if not names or not any(numbers):
        return el("figure", el("figcaption", title), el("p", "There is nothing to draw."))
    rows = [[name, *(short(of_group[at]) for _, of_group in groups)] for at, name in enumerate(names)]
    numbers_table = table([title, *(name for name, _ in groups)], rows, unit)
    legend = [
        el("li", el("svg", el("rect", x=0, y=1, width=28, height=8, class_=f"f{at % LINES}"), viewBox="0 0 32 10",
                    aria_hidden="true"), f" {name}")
        for at, (name, _) in enumerate(groups)
    ]  # fmt: skip
    return el(
        "figure",
        el("figcaption", title),
        _drawing(title, unit, names, groups),
        el("ul", *legend, class_="legend") if len(groups) > 1 else None,
        el("details", el("summary", "Numbers"), numbers_table),
    )


def _drawing(title: str, unit: str, names: Sequence[str], groups: Sequence[tuple[str, Sequence[float]]]) -> Element:
    step = len(groups) * _BAR + _GAP
    bottom = len(names) * step + _GAP
    height = bottom + 36
    most = max(max(of_group) for _, of_group in groups)
    scale = (_WIDTH - _LEFT - _RIGHT) / most
    drawing = el("svg", el("title", title), viewBox=f"0 0 {_WIDTH} {height}", role="img")
    drawing.append(el("desc", f"{unit}: " + ", ".join(
        f"{name} {', '.join(short(of_group[at]) for _, of_group in groups)}" for at, name in enumerate(names)
    )))  # fmt: skip
    for value in linear_ticks(0, most, 4):
        x = round(_LEFT + value * scale, 1)
        drawing.append(el("line", x1=x, x2=x, y1=0, y2=bottom, class_="grid"))
        anchor = "end" if x > _WIDTH - 20 else "middle"
        drawing.append(el("text", short(value), x=x, y=bottom + 15, text_anchor=anchor))
    for at, name in enumerate(names):
        y = _GAP + at * step
        drawing.append(el("text", name[:_NAME], x=_LEFT - 6, y=y + (step - _GAP) / 2 + 4, text_anchor="end"))
        for number, (_, of_group) in enumerate(groups):
            width = round(of_group[at] * scale, 1)
            drawing.append(
                el("rect", x=_LEFT, y=y + number * _BAR, width=width, height=_BAR - 1, class_=f"f{number % LINES}")
            )
    drawing.append(el("text", unit, x=_WIDTH / 2, y=height - 4, text_anchor="middle"))
    return drawing
