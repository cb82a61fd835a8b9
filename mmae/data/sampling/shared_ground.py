"""Finds tiles that show the same ground as other tiles: by their ids, places and footprints.

A footprint is a square around a tile's place, with sides along north and east. Map grids are rotated against that
by a few degrees, and the Earth is not a sphere, so an overlap of less than a pixel does not count.

Shape suffixes: N tiles, A tiles that are asked about, T tiles that these are compared with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from mmae.data.sampling.earth_grid import EARTH_KM, EarthGrid, unit_vectors
from mmae.modalities import MODALITIES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.data.shards.index import Index
    from mmae.data.shards.index_json import DatasetInfo

APART: Final = 0
SAME_ID: Final = 1
SAME_PLACE: Final = 2
OVERLAPPING: Final = 3

_PIXEL_KM: Final = 0.01
_METRE_DEGREES: Final = 1e-5
_SMALLEST_CELL_KM: Final = 0.05


@dataclass(frozen=True, eq=False)
class Ground:
    """Where tiles lie.

    Attributes:
        tile_id: fixed-width UTF-8 bytes (N,).
        lat, lon: float64 degrees (N,), NaN where unknown.
        side_km: float64 (N,), side of the footprint; 0 where it is not known.
    """

    tile_id: NDArray[np.bytes_]
    lat: NDArray[np.float64]
    lon: NDArray[np.float64]
    side_km: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.tile_id)

    @cached_property
    def ids(self) -> tuple[NDArray[np.bytes_], NDArray[np.int64]]:
        """The tile ids, each once and in order, and the first tile with each. They are sorted at the first use."""
        return np.unique(self.tile_id, return_index=True)

    def __getitem__(self, some: NDArray[np.int64] | NDArray[np.bool_]) -> Ground:
        return Ground(self.tile_id[some], self.lat[some], self.lon[some], self.side_km[some])


def ground_of(index: Index, positions: NDArray[np.int64]) -> Ground:
    """The ground of the tiles at the given positions of an index."""
    side = np.full(len(positions), footprint_km(index.datasets))
    return Ground(index.tile_id[positions], index.lat[positions], index.lon[positions], side)


def joined(grounds: list[Ground]) -> Ground:
    """The tiles of all, in that order; at least one ground."""
    return Ground(
        *(np.concatenate([getattr(each, name) for each in grounds]) for name in ("tile_id", "lat", "lon", "side_km"))
    )


def footprint_km(datasets: Mapping[str, DatasetInfo]) -> float:
    """Side of a tile on the ground: MMEarth's images all have pixels of 10 m. 0 where there is no image."""
    for name in dict.fromkeys(row.dataset for row in MODALITIES.values()):
        if name in datasets and len(datasets[name].shape) == 3:
            return max(datasets[name].shape[1:]) * _PIXEL_KM
    return 0.0


def shared_ground(asked: Ground, others: Ground) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Which tiles share ground with one of the others. The time is proportional to the number of tiles.

    Returns:
        kind_A: `APART`, or the closest of `SAME_ID`, `SAME_PLACE` and `OVERLAPPING`.
        other_A: int64, a tile with which the ground is shared; -1 if there is none.
    """
    other_A = _equal(asked.tile_id, *others.ids) if len(asked) else np.empty(0, np.int64)
    kind_A = np.where(other_A >= 0, SAME_ID, APART).astype(np.uint8)
    placed_T = np.flatnonzero(np.isfinite(others.lat) & np.isfinite(others.lon))
    for kind, find in ((SAME_PLACE, _same_place), (OVERLAPPING, _overlapping)):
        left = np.flatnonzero((kind_A == APART) & np.isfinite(asked.lat) & np.isfinite(asked.lon))
        if len(left) and len(placed_T):
            found = find(asked[left], others[placed_T])
            hit = found >= 0
            kind_A[left[hit]], other_A[left[hit]] = kind, placed_T[found[hit]]
    return kind_A, other_A


def _equal(asked_A: NDArray[np.generic], known: NDArray[np.generic], first: NDArray[np.int64]) -> NDArray[np.int64]:
    """The number of the first equal key, int64 (A,); -1 where there is none.

    Args:
        known: the keys, each once and in order.
        first: the number of the first key equal to each.
    """
    if len(known) == 0:
        return np.full(len(asked_A), -1)
    place_A = np.minimum(np.searchsorted(known, asked_A), len(known) - 1)
    return np.where(known[place_A] == asked_A, first[place_A], -1)


def _same_place(asked: Ground, others: Ground) -> NDArray[np.int64]:
    return _equal(_metres(asked), *np.unique(_metres(others), return_index=True))


def _metres(ground: Ground) -> NDArray[np.int64]:
    """A number a place, the same within about a metre."""
    north, east = (np.round(degrees / _METRE_DEGREES).astype(np.int64) for degrees in (ground.lat, ground.lon))
    around = round(360 / _METRE_DEGREES)
    return north * around + east % around


def _overlapping(asked: Ground, others: Ground) -> NDArray[np.int64]:
    """The number of a tile whose footprint overlaps, int64 (A,); -1 where there is none. All places are known."""
    found_A = np.full(len(asked), -1)
    # The largest of several tiles at one place represents them.
    metres = _metres(others)
    order = np.lexsort((-others.side_km, metres))
    single = order[np.flatnonzero(np.diff(metres[order], prepend=metres[order[0]] - 1))]
    # Squares that overlap have centres nearer than a diagonal.
    reach = (float(asked.side_km.max()) + float(others.side_km.max())) / 2
    grid = EarthGrid(max(reach * np.sqrt(2), _SMALLEST_CELL_KM))
    cells_T = grid.keys(others.lat[single], others.lon[single])
    by_cell = np.argsort(cells_T, kind="stable")
    cells_T, numbers_T = cells_T[by_cell], single[by_cell]
    cells_A = grid.keys(asked.lat, asked.lon)
    # Searching in sorted order is several times faster, because the data is in the processor's cache.
    ordered = np.argsort(cells_A)
    cells_A, asked = cells_A[ordered], asked[ordered]
    for column in grid.columns:
        begin_A = np.searchsorted(cells_T, cells_A + column - 1, side="left")
        end_A = np.searchsorted(cells_T, cells_A + column + 1, side="right")
        left = np.flatnonzero((begin_A < end_A) & (found_A < 0))
        # One candidate of each at a time: tiles seldom have many in a cell, and most stop at the first.
        while len(left):
            candidates = numbers_T[begin_A[left]]
            hit = _overlap(asked[left], others[candidates])
            found_A[left[hit]] = candidates[hit]
            begin_A[left] += 1
            left = left[~hit & (begin_A[left] < end_A[left])]
    in_order = np.empty_like(found_A)
    in_order[ordered] = found_A
    return in_order


def _overlap(first: Ground, second: Ground) -> NDArray[np.bool_]:
    """Whether the footprints of each pair overlap by more than a pixel in both directions, bool (N,)."""
    phi, lam = np.radians(first.lat), np.radians(first.lon)
    apart = EARTH_KM * (unit_vectors(second.lat, second.lon) - unit_vectors(first.lat, first.lon))
    east = apart[:, 1] * np.cos(lam) - apart[:, 0] * np.sin(lam)
    north = apart[:, 2] * np.cos(phi) - (apart[:, 0] * np.cos(lam) + apart[:, 1] * np.sin(lam)) * np.sin(phi)
    near = (first.side_km + second.side_km) / 2 - _PIXEL_KM
    overlap: NDArray[np.bool_] = (np.abs(east) < near) & (np.abs(north) < near)
    return overlap
