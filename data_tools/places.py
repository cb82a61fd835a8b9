"""Where and when tiles were taken, and which of them show the same place."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from mmae.data.index import UNKNOWN_BIOME, UNKNOWN_DATE
from mmae.draws import tile_keys

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from data_tools.hdf5 import Source

CELL_KM: Final = 2.0
"""Side of a cell. The largest tiles (128 px of 10 m) are 1.28 km wide, so tiles that overlap lie in
the same cell or in two that touch, and no place of the sparsely sampled Earth is chained to the next."""

_EARTH_KM: Final = 6371.0
_DATE: Final = re.compile(r"(\d{4})-(\d{2})-(\d{2})")
_GROUP_DRAW: Final = 1
"""The epoch of `draws.tile_keys` that orders places; shards take 0."""


class Facts(NamedTuple):
    """One entry a source row: degrees (NaN unknown), yyyymmdd (0 unknown), biome (255 unknown)."""

    lat: NDArray[np.float64]
    lon: NDArray[np.float64]
    date: NDArray[np.int32]
    biome: NDArray[np.uint8]


def tile_facts(source: Source) -> Facts:
    """Facts from tile_info; where it is silent on places and biomes, from the datasets that encode them."""
    entries = [source.tile_info[tile_id] for tile_id in source.tile_ids]
    return Facts(
        lat=_degrees(entries, source, "lat", 90.0),
        lon=_degrees(entries, source, "lon", 180.0),
        date=np.array([_date(entry.get("S2_DATE")) for entry in entries], np.int32),
        biome=_biomes(entries, source),
    )


def _degrees(entries: list[Mapping[str, Any]], source: Source, name: str, bound: float) -> NDArray[np.float64]:
    degrees = np.array([_number(entry.get(name), bound) for entry in entries], np.float64)
    unknown = np.isnan(degrees)
    encoded = source.read_all(name) if unknown.any() else None
    if encoded is not None and encoded.shape[1:] == (2,):
        sine, cosine = encoded[:, 0].astype(np.float64), encoded[:, 1].astype(np.float64)
        angle = np.degrees(np.arctan2(sine, cosine))
        # A zero vector encodes no angle.
        known = unknown & (np.abs(np.hypot(sine, cosine) - 1) < 0.1) & (np.abs(angle) <= bound)
        degrees[known] = angle[known]
    return degrees


def _number(value: object, bound: float) -> float:
    known = isinstance(value, int | float) and math.isfinite(value) and abs(value) <= bound
    return float(value) if known else math.nan  # type: ignore[arg-type]


def _date(value: object) -> int:
    match = _DATE.match(value) if isinstance(value, str) else None
    return int("".join(match.groups())) if match else UNKNOWN_DATE


def _biomes(entries: list[Mapping[str, Any]], source: Source) -> NDArray[np.uint8]:
    listed = [entry.get("biome") for entry in entries]
    biome = np.array(
        [value if type(value) is int and 0 <= value < UNKNOWN_BIOME else UNKNOWN_BIOME for value in listed], np.uint8
    )
    one_hot = source.read_all("biome")
    if one_hot is not None and one_hot.ndim == 2 and one_hot.shape[1] < UNKNOWN_BIOME:
        return np.where(one_hot.any(axis=1), one_hot.argmax(axis=1), biome).astype(np.uint8)
    return biome


def place_groups(lat: NDArray[np.float64], lon: NDArray[np.float64]) -> NDArray[np.int64]:
    """A number for each tile, equal for tiles near one another, int64 (N,); all coordinates must be known.

    Tiles fall into cubic cells of `CELL_KM` around the Earth's centre, which knows neither poles nor a
    date line; cells that touch, be it at a corner, are one group.
    """
    phi, lam = np.radians(lat), np.radians(lon)
    place = np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)], axis=1)
    # One cell of margin, so that neighbours of the outermost stay positive.
    cells = np.floor(place * (_EARTH_KM / CELL_KM)).astype(np.int64) + int(_EARTH_KM / CELL_KM) + 2
    side = 2 * int(_EARTH_KM / CELL_KM) + 5
    keys, cell_of_tile = np.unique((cells[:, 0] * side + cells[:, 1]) * side + cells[:, 2], return_inverse=True)
    return _connect(keys, side)[cell_of_tile]


def _connect(keys: NDArray[np.int64], side: int) -> NDArray[np.int64]:
    """Connected cells get the smallest index among them."""
    steps = [(x * side + y) * side + z for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1)]
    pairs = []
    for step in (step for step in steps if step > 0):
        at = np.minimum(np.searchsorted(keys, keys + step), len(keys) - 1)
        touching = np.flatnonzero(keys[at] == keys + step)
        pairs.append(np.stack([touching, at[touching]]))
    first, second = np.concatenate(pairs, axis=1)
    label = np.arange(len(keys))
    while True:
        lower = label.copy()
        np.minimum.at(lower, first, label[second])
        np.minimum.at(lower, second, label[first])
        lower = lower[lower]
        if np.array_equal(lower, label):
            return label
        label = lower


def draw_by_place(rows: NDArray[np.int64], groups: NDArray[np.int64], fraction: float, seed: int) -> NDArray[np.int64]:
    """Rows of whole groups, drawn with a seed, whose number is near `fraction` of all rows; at least one group.

    Args:
        rows: int64 (N,).
        groups: int64 (N,), from `place_groups`.
    """
    _, group_of_row, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    smallest_row = np.full(len(sizes), np.iinfo(np.int64).max)
    np.minimum.at(smallest_row, group_of_row, rows)
    target = fraction * len(rows)
    taken = np.zeros(len(sizes), np.bool_)
    count = 0
    for group in np.argsort(tile_keys(seed, _GROUP_DRAW, smallest_row), kind="stable").tolist():
        size = int(sizes[group])
        if abs(count + size - target) < abs(count - target):
            taken[group] = True
            count += size
    if not taken.any():
        taken[np.argmin(sizes)] = True
    return rows[taken[group_of_row]]
