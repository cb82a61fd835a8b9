"""Train, val and test by place: whole geographic blocks, and a gap between the tiles of different parts.

Tiles near one another look alike, so that a split that ignores places measures memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from mmae.data.sampling.earth_grid import EARTH_KM, EarthGrid, unit_vectors
from mmae.draws import tile_keys
from mmae.errors import InputError
from mmae.terminal.plurals import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

PARTS: Final = ("train", "val", "test")
_SHARES: Final = (0.6, 0.2, 0.2)
_BLOCK_DRAW: Final = 2
"""The epoch of `draws.tile_keys` that orders blocks; `mmae repack` takes 0 and 1."""

LEFT_OUT: Final = -1
_TRAIN, _VAL, _TEST = range(3)


@dataclass(frozen=True)
class Places:
    """Where tiles are.

    Attributes:
        lat, lon: float64 degrees (N,).
        row: int64 (N,), rows in the source.
    """

    lat: NDArray[np.float64]
    lon: NDArray[np.float64]
    row: NDArray[np.int64]


def split_blocks(places: Places, block_km: float, gap_km: float, seed: int) -> NDArray[np.int8]:
    """The part of each tile, int8 (N,): 0 train, 1 val, 2 test, -1 for a tile in the gap.

    Blocks are cells of a grid around the Earth's centre. They are drawn with the seed, in an order that does not depend
    on that of the tiles, and each goes to the part that lacks most of its share of the tiles (60, 20 and 20 %).

    Raises:
        InputError: there are fewer than three blocks, or the gap leaves a part empty.
    """
    part_N = _drawn(places, block_km, _SHARES, seed)
    return with_gap(places, part_N, gap_km)


def split_val(places: Places, block_km: float, seed: int) -> NDArray[np.int8]:
    """Tiles in blocks of train (0) and val (1), int8 (N,): 80 and 20 %. There is no gap yet.

    Raises:
        InputError: there are fewer than two blocks.
    """
    return _drawn(places, block_km, (0.8, 0.2), seed)


def _drawn(places: Places, block_km: float, shares: Sequence[float], seed: int) -> NDArray[np.int8]:
    keys_N = EarthGrid(block_km).keys(places.lat, places.lon)
    _, block_N, sizes_b = np.unique(keys_N, return_inverse=True, return_counts=True)
    if len(sizes_b) < len(shares):
        raise InputError(
            f"{counted(len(block_N), 'tile')} lie in {counted(len(sizes_b), 'block')} of {block_km:g} km, and "
            f"{len(shares)} parts need as many: say a smaller --block-km"
        )
    first_row_b = np.full(len(sizes_b), np.iinfo(np.int64).max)
    np.minimum.at(first_row_b, block_N, places.row)
    part_b = np.empty(len(sizes_b), np.int8)
    held = np.zeros(len(shares))
    for block in np.argsort(tile_keys(seed, _BLOCK_DRAW, first_row_b), kind="stable").tolist():
        part_b[block] = np.argmin(held / shares)
        held[part_b[block]] += sizes_b[block]
    return part_b[block_N]


def with_gap(places: Places, part_N: NDArray[np.int8], gap_km: float) -> NDArray[np.int8]:
    """The same parts without tiles that are nearer than the gap to a tile of another part.

    Val gives way to test, and train to both.

    Raises:
        InputError: a part is empty, or becomes empty.
    """
    part_N = part_N.copy()
    for giving in (_VAL, _TRAIN):
        part_N[_near(places, part_N == giving, part_N > giving, gap_km)] = LEFT_OUT
    for number, name in enumerate(PARTS):
        if not bool((part_N == number).any()):
            raise InputError(
                f"a gap of {gap_km:g} km between the parts leaves no tile in {name}: say another --gap-km, --block-km "
                "or --seed"
            )
    return part_N


def _near(places: Places, asked_N: NDArray[np.bool_], others_N: NDArray[np.bool_], gap_km: float) -> NDArray[np.int64]:
    """The asked tiles that have one of the others nearer than the gap, as positions."""
    from sklearn.neighbors import KDTree

    asked, others = np.flatnonzero(asked_N), np.flatnonzero(others_N)
    if not len(asked) or not len(others) or gap_km <= 0:
        return asked[:0]
    points_N3 = unit_vectors(places.lat, places.lon)
    distance = KDTree(points_N3[others]).query(points_N3[asked], k=1)[0][:, 0]
    near: NDArray[np.int64] = asked[distance * EARTH_KM < gap_km]
    return near


def place_groups(places: Places, footprint_km: float) -> NDArray[np.int64]:
    """Tiles near one another are of one group: those of a cell with two footprints' side, int64 (N,)."""
    return EarthGrid(max(2 * footprint_km, 0.1)).keys(places.lat, places.lon)
