"""Where samples lie: their pickled descriptions name a coordinate system and a transform, which are read as numbers.

Some tasks were converted with one transform for all samples (that of a whole scene, or of the first image): such places
say nothing.
"""

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
_LARGEST_PIXEL_M: Final = 100.0
"""Images of the suite have pixels of 0.1 to 15 m."""


@dataclass(frozen=True)
class Place:
    """A point in a coordinate system: its first axis points east, its second north."""

    epsg: int
    x: float
    y: float


def centre_of(description: Mapping[Any, Any], shapes: Mapping[str, tuple[int, ...]]) -> Place | None:
    """The middle of a sample; None where its place is not said.

    Args:
        shapes: data set -> (H, W) in pixels.
    """
    for name, each in description.items():
        if not isinstance(each, dict) or name not in shapes:
            continue
        epsg, centre = _epsg(each.get("crs")), _centre(each.get("transform"), shapes[name])
        if epsg is not None and centre is not None:
            return Place(epsg, *centre)
    return None


def half_diagonal_km(description: Mapping[Any, Any], shapes: Mapping[str, tuple[int, ...]]) -> float:
    """From the middle of a sample to its corners, by the pixel size that it says; 0 where it says none."""
    found = 0.0
    for name, each in description.items():
        metres = each.get("spatial_resolution") if isinstance(each, dict) and name in shapes else None
        if isinstance(metres, int | float) and 0 < metres < _LARGEST_PIXEL_M:
            found = max(found, metres / 1000 * math.hypot(*shapes[name]) / 2)
    return found


def degrees(places: Sequence[Place | None]) -> NDArray[np.float64]:
    """Latitude and longitude of each place (N, 2); NaN where it is not known, and if all places are the same."""
    found_N2 = np.full((len(places), 2), np.nan)
    for epsg in sorted({place.epsg for place in places if place is not None}):
        chosen = [number for number, place in enumerate(places) if place is not None and place.epsg == epsg]
        x = [place.x for place in places if place is not None and place.epsg == epsg]
        y = [place.y for place in places if place is not None and place.epsg == epsg]
        lon, lat = (x, y) if epsg == _DEGREES else _transformed(epsg, x, y)
        found_N2[chosen] = np.stack([lat, lon], axis=1)
    found_N2[~np.isfinite(found_N2).all(1) | (np.abs(found_N2[:, 0]) > 90)] = np.nan
    known_N2 = found_N2[np.isfinite(found_N2).all(1)]
    if len(known_N2) > 1 and bool((known_N2 == known_N2[0]).all()):
        found_N2[:] = np.nan
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


def _centre(transform: Any, shape: tuple[int, ...]) -> tuple[float, float] | None:
    numbers = transform.args if isinstance(transform, Record) else transform
    if not isinstance(numbers, tuple) or len(numbers) < 6:
        return None
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in numbers[:6]):
        return None
    by_column, by_row, x, by_column_y, by_row_y, y = (float(value) for value in numbers[:6])
    row, column = shape[0] / 2, shape[1] / 2
    return x + by_column * column + by_row * row, y + by_column_y * column + by_row_y * row
