"""How well an order of tiles mixes, compared with a perfect shuffle: pure functions over orders and source rows.

Shape suffixes: N tiles, B tiles of a global batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

WITHIN: Final = (1, 10)
"""Two tiles count as neighbours in the source if they are at most so many rows apart."""


@dataclass(frozen=True)
class Quality:
    """How well an order mixes.

    Attributes:
        moved: the distance between a tile's positions in two successive epochs, as a share of the epoch; mean over
            tiles.
        neighbours: for each of `WITHIN`, the share of all pairs of a global batch that are neighbours in the source.
    """

    moved: float
    neighbours: tuple[float, ...]


def quality(orders: Sequence[NDArray[np.int64]], rows_N: NDArray[np.int64], global_batch: int) -> Quality:
    """How well successive epochs mix; means over epochs and global batches.

    Args:
        orders: for each of at least two epochs, the tiles (0 .. N-1) in the order in which they are read.
        rows_N: source row of each tile.
        global_batch: its number of tiles; an incomplete batch at the end of an epoch is ignored.
    """
    moves = [_moved(one, other) for one, other in pairwise(orders)]
    shares = [
        [neighbour_share(rows_N[order_N[start : start + global_batch]], within) for within in WITHIN]
        for order_N in orders
        for start in range(0, len(order_N) - global_batch + 1, global_batch)
    ]
    return Quality(float(np.mean(moves)), tuple(np.mean(shares, axis=0).tolist()))


def perfect(rows_N: NDArray[np.int64]) -> Quality:
    """The expected quality if epochs are drawn uniformly from all permutations.

    Every pair of tiles is then equally likely in a batch, so the share of neighbours is that of the whole split.
    """
    count = len(rows_N)
    return Quality((1 - 1 / count**2) / 3, tuple(neighbour_share(rows_N, within) for within in WITHIN))


def neighbour_share(rows_B: NDArray[np.int64], within: int) -> float:
    """The share of pairs of tiles whose source rows differ by at most `within`; 0 if there is no pair.

    Args:
        rows_B: source rows, all different.
    """
    sorted_B = np.sort(rows_B)
    behind = np.searchsorted(sorted_B, sorted_B + within, side="right") - np.arange(len(sorted_B)) - 1
    pairs = len(rows_B) * (len(rows_B) - 1) / 2
    return float(behind.sum() / pairs) if pairs else 0.0


def _moved(one_N: NDArray[np.int64], other_N: NDArray[np.int64]) -> float:
    place_N = np.empty_like(one_N)
    place_N[one_N] = np.arange(len(one_N))
    return float(np.abs(place_N[other_N] - np.arange(len(other_N))).mean() / len(one_N))
