"""Lines for charts from records: named by the path of a number in its record, thinned to what a chart can show."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from mmae.report.page.chart import Line
from mmae.run.log_reader import step_of_record

Record = dict[str, Any]
Path = tuple[str, ...]

MOST_POINTS: Final = 150
"""Points of a line; of more records each point is the mean of several, with a band from lowest to highest."""


def line_of(name: str, records: Sequence[Record], *paths: Path, kind: int | None = None, scale: float = 1) -> Line:
    """A number of each record over its step. Of several paths the first that a record has is taken.

    Args:
        scale: is multiplied to each number.
    """
    points = [(step_of_record(record), _first(record, paths)) for record in records]
    known = [(x, None if y is None else y * scale) for x, y in points]
    return _thinned(name, known, kind)


def number_paths(records: Iterable[Record], without: frozenset[str]) -> list[Path]:
    """The paths of all numbers in records, in the order in which they first occur.

    Args:
        without: fields that are left out.
    """
    found: dict[Path, None] = {}
    for record in records:
        found |= dict.fromkeys(_paths({key: value for key, value in record.items() if key not in without}, ()))
    return list(found)


def number_at(record: Record, path: Path) -> float | None:
    """The number at a path; None if there is none, or it is not finite."""
    value: Any = record
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _first(record: Record, paths: Sequence[Path]) -> float | None:
    return next((number for path in paths if (number := number_at(record, path)) is not None), None)


def _paths(values: Mapping[str, Any], before: Path) -> Iterator[Path]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _paths(value, (*before, str(key)))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield (*before, str(key))


def _thinned(name: str, points: Sequence[tuple[int, float | None]], kind: int | None) -> Line:
    if len(points) <= MOST_POINTS:
        return Line(name, [x for x, _ in points], [y for _, y in points], kind=kind)
    xs, ys, lows, highs = list[float](), list[float | None](), list[float | None](), list[float | None]()
    for number in range(MOST_POINTS):
        part = points[number * len(points) // MOST_POINTS : (number + 1) * len(points) // MOST_POINTS]
        known = [y for _, y in part if y is not None]
        xs.append(part[len(part) // 2][0])
        ys.append(sum(known) / len(known) if known else None)
        lows.append(min(known, default=None))
        highs.append(max(known, default=None))
    return Line(name, xs, ys, lows, highs, kind)
