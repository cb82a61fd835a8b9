"""Where samples lie: their pickled descriptions name a coordinate system and a transform, which are read as numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmae.evaluate.benchmark.geobench.inert_pickle import Record

if TYPE_CHECKING:
    from numpy.typing import NDArray

_EPSG: Final = re.compile(r"(?:EPSG[\"':,\s\]]*|epsg:)(\d{4,6})")
_DEGREES: Final = 4326


@dataclass(frozen=True)
class Place:
    """A point in a coordinate system: its first axis points east, its second north."""

    epsg: int
    x: float
    y: float


def corner_of(description: Mapping[Any, Any]) -> Place | None:
    """The upper left corner of a sample, which is within a tile's side of all of it; None where it is not said."""
    for each in description.values():
        if not isinstance(each, dict):
            continue
        epsg, corner = _epsg(each.get("crs")), _corner(each.get("transform"))
        if epsg is not None and corner is not None:
            return Place(epsg, *corner)
    return None


def degrees(places: Sequence[Place | None]) -> NDArray[np.float64]:
    """Latitude and longitude of each place (N, 2); NaN where it is not known."""
    found_N2 = np.full((len(places), 2), np.nan)
    for epsg in sorted({place.epsg for place in places if place is not None}):
        chosen = [number for number, place in enumerate(places) if place is not None and place.epsg == epsg]
        x = [place.x for place in places if place is not None and place.epsg == epsg]
        y = [place.y for place in places if place is not None and place.epsg == epsg]
        lon, lat = (x, y) if epsg == _DEGREES else _transformed(epsg, x, y)
        found_N2[chosen] = np.stack([lat, lon], axis=1)
    found_N2[~np.isfinite(found_N2).all(1) | (np.abs(found_N2[:, 0]) > 90)] = np.nan
    return found_N2


def _transformed(epsg: int, x: list[float], y: list[float]) -> tuple[list[float], list[float]]:
    from rasterio.errors import CRSError
    from rasterio.warp import transform

    try:
        lon, lat, *_ = transform(f"EPSG:{epsg}", f"EPSG:{_DEGREES}", x, y)
    except CRSError:
        # A number that is no coordinate system says no place.
        return [math.nan] * len(x), [math.nan] * len(y)
    return lon, lat


def _epsg(crs: Any) -> int | None:
    """The code of a coordinate system: the last one in its text is of the whole system."""
    said = [crs] if not isinstance(crs, Record) else [crs.state, *crs.args]
    for each in said:
        found = _EPSG.findall(_text(each)[:100_000])
        if found:
            return int(found[-1])
    return None


def _text(said: Any) -> str:
    if isinstance(said, dict):
        return str(said.get("init", ""))
    if isinstance(said, bytes):
        return said.decode("utf-8", "replace")
    return said if isinstance(said, str) else ""


def _corner(transform: Any) -> tuple[float, float] | None:
    numbers = transform.args if isinstance(transform, Record) else transform
    if not isinstance(numbers, tuple) or len(numbers) < 6:
        return None
    x, y = numbers[2], numbers[5]
    known = all(isinstance(value, int | float) and math.isfinite(value) for value in (x, y))
    return (float(x), float(y)) if known else None
