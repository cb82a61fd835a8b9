"""A small map of the world with places on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from mmae.report.page.land import CELL, land_runs
from mmae.report.page.markup import el, table

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from numpy.typing import NDArray

    Places = NDArray[np.float64]
    # Degrees north and east, (N, 2).

_CELLS: Final = 0.5
"""Degrees a side of the cells in which places become one dot: a page of a million dots would be too large."""
_WIDTH, _HEIGHT = 720, 360


def world_map(title: str, groups: Sequence[tuple[str, Places]]) -> Element:
    """A figure with a map, a dot for each half degree with places in it, and the numbers as a table.

    Args:
        groups: at most six, each with its name.
    """
    path = "".join(f"M{2 * column * CELL} {2 * row * CELL}h{2 * count * CELL}v{2 * CELL}h-{2 * count * CELL}z"
                   for row, column, count in land_runs())  # fmt: skip
    drawing = el("svg", el("title", title), viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img")
    drawing.append(el("desc", f"{_counts(groups)}. Dots on a map of the world, longitude across, latitude upwards."))
    drawing.append(el("path", d=path, class_="land"))
    for lat in (-60, -30, 0, 30, 60):
        y = 2 * (90 - lat)
        drawing.append(el("line", x1=0, x2=_WIDTH, y1=y, y2=y, class_="grid"))
        drawing.append(el("text", f"{abs(lat)}° {'N' if lat > 0 else 'S' if lat < 0 else ''}".strip(), x=2, y=y - 3))
    for lon in (-120, -60, 0, 60, 120):
        x = 2 * (lon + 180)
        drawing.append(el("line", x1=x, x2=x, y1=0, y2=_HEIGHT, class_="grid"))
        drawing.append(el("text", f"{abs(lon)}° {'E' if lon > 0 else 'W' if lon < 0 else ''}".strip(), x=x + 2, y=354))
    for number, (_, places) in enumerate(groups):
        drawing.append(_dots(number, places))
    return el(
        "figure",
        el("figcaption", title),
        drawing,
        _legend(groups),
        el("details", el("summary", "Numbers"), _table(groups)),
        class_="map",
    )


def _dots(number: int, places: Places) -> Element:
    """One path for all dots of a group: small squares and diamonds by turns, so that colour is not all."""
    cells = np.unique(np.round(places / _CELLS).astype(np.int64), axis=0).tolist() if len(places) else []
    shape = "m-3 -3h6v6h-6z" if number % 2 == 0 else "m0 -4l4 4l-4 4l-4 -4z"
    dots = (f"M{2 * (lon * _CELLS + 180):.0f} {2 * (90 - lat * _CELLS):.0f}{shape}" for lat, lon in cells)
    return el("path", d="".join(dots), class_=f"f{number % 6}", stroke="none")


def _legend(groups: Sequence[tuple[str, Places]]) -> Element:
    shapes = ("M4 1h8v8h-8z", "M8 0l5 5l-5 5l-5 -5z")
    return el(
        "ul",
        *(
            el(
                "li",
                el("svg", el("path", d=shapes[number % 2], class_=f"f{number % 6}"), viewBox="0 0 32 10",
                   aria_hidden="true"),
                f" {name}",
            )
            for number, (name, _) in enumerate(groups)
        ),
        class_="legend",
    )  # fmt: skip


def _counts(groups: Sequence[tuple[str, Places]]) -> str:
    return ", ".join(f"{name}: {len(places)} places" for name, places in groups)


def _table(groups: Sequence[tuple[str, Places]]) -> Element:
    """Places in each band of 30 degrees of latitude."""
    edges = np.arange(-90, 91, 30)
    counts = [np.histogram(places[:, 0] if len(places) else [], edges)[0] for _, places in groups]
    bands = range(len(edges) - 2, -1, -1)
    rows = [[f"{edges[band]}° to {edges[band + 1]}°", *(str(count[band]) for count in counts)] for band in bands]
    return table(["latitude", *(name for name, _ in groups)], rows, "Places by latitude")
