"""Groups of tiles that show the same place, and a split that never divides a group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from data_tools.source.tile_info import Facts
from mmae.data.sampling.earth_grid import EarthGrid
from mmae.data.sampling.shared_ground import Ground
from mmae.draws import tile_keys

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from data_tools.source.dataset import Source

CELL_KM: Final = 2.0
"""Side of a cell. The largest tiles (128 px of 10 m) are 1.28 km wide, so tiles that overlap lie in
the same cell or in two that touch, and no place of the sparsely sampled Earth is chained to the next."""

_GROUP_DRAW: Final = 1
"""The epoch of `draws.tile_keys` that orders places; shards take 0."""


def ground_of_rows(source: Source, facts: Facts, rows: NDArray[np.int64]) -> Ground:
    """The geographic positions of some rows of a source."""
    tile_id = np.array([source.tile_ids[row].encode() for row in rows.tolist()], np.bytes_)
    return Ground(tile_id, facts.lat[rows], facts.lon[rows], np.full(len(rows), source.footprint_km))


def place_groups(lat: NDArray[np.float64], lon: NDArray[np.float64]) -> NDArray[np.int64]:
    """The group of each tile, int64 (N,), equal for tiles near one another; all coordinates must be known.

    Each tile lies in a cell of `CELL_KM`. Cells that touch, also at a corner, form one group.
    """
    grid = EarthGrid(CELL_KM)
    keys, cell_of_tile = np.unique(grid.keys(lat, lon), return_inverse=True)
    return _connect(keys, grid.steps)[cell_of_tile]


def _connect(keys: NDArray[np.int64], steps: Sequence[int]) -> NDArray[np.int64]:
    """Connected cells get the smallest index among them."""
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
    """The rows of whole groups, drawn with a seed: about `fraction` of all rows, and at least one group.

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
