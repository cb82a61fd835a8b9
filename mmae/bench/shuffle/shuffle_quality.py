"""How well an order of tiles mixes, beside a perfect shuffle: pure functions over orders and source rows.

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
"""Source neighbours are tiles at most so many rows apart."""


@dataclass(frozen=True)
class Quality:
    """What `quality` finds.

    Attributes:
        moved: how far a tile's place in an epoch lies from its place in the one before, mean over tiles, as a share
            of the epoch.
        neighbours: for each of `WITHIN`, the share of all pairs of a global batch that are source neighbours.
    """

    moved: float
    neighbours: tuple[float, ...]


def quality(orders: Sequence[NDArray[np.int64]], rows_N: NDArray[np.int64], global_batch: int) -> Quality:
    """How well successive epochs mix, mean over epochs and global batches.

    Args:
        orders: of each epoch, the tiles in the order in which they are read, numbered 0 .. N-1; two or more.
        rows_N: source row of each tile.
        global_batch: tiles; what an epoch has left at its end is not looked at.
    """
    moves = [_moved(one, other) for one, other in pairwise(orders)]
    shares = [
        [neighbour_share(rows_N[order_N[start : start + global_batch]], within) for within in WITHIN]
        for order_N in orders
        for start in range(0, len(order_N) - global_batch + 1, global_batch)
    ]
    return Quality(float(np.mean(moves)), tuple(np.mean(shares, axis=0).tolist()))


def perfect(rows_N: NDArray[np.int64]) -> Quality:
    """What is expected of epochs that are drawn uniformly from all permutations.

    Any two places of a batch then hold any two tiles: the share of neighbours is that of the whole split.
    """
    count = len(rows_N)
    return Quality((1 - 1 / count**2) / 3, tuple(neighbour_share(rows_N, within) for within in WITHIN))


def neighbour_share(rows_B: NDArray[np.int64], within: int) -> float:
    """Share of the pairs of tiles whose source rows differ by at most `within`; 0 where there is no pair.

    Args:
        rows_B: source rows, each once.
    """
    sorted_B = np.sort(rows_B)
    behind = np.searchsorted(sorted_B, sorted_B + within, side="right") - np.arange(len(sorted_B)) - 1
    pairs = len(rows_B) * (len(rows_B) - 1) / 2
    return float(behind.sum() / pairs) if pairs else 0.0


def _moved(one_N: NDArray[np.int64], other_N: NDArray[np.int64]) -> float:
    place_N = np.empty_like(one_N)
    place_N[one_N] = np.arange(len(one_N))
    return float(np.abs(place_N[other_N] - np.arange(len(other_N))).mean() / len(one_N))
