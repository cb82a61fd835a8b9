"""The choice of training tiles from a split: pure functions over the index.

Shape suffixes: N tiles, K keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mmae.data.sampling.order import hashes
from mmae.draws import Stream

if TYPE_CHECKING:
    from numpy.typing import NDArray


def fraction_of(rows_N: NDArray[np.int64], fraction: float, seed: int) -> NDArray[np.bool_]:
    """The chosen share of the tiles, bool (N,): round(fraction x N) tiles, at least one if there is any.

    A smaller fraction takes a subset of a larger one. The choice does not depend on where tiles are stored.

    Args:
        rows_N: source rows, each once.
        fraction: in (0, 1].
        seed: another one takes other tiles.
    """
    count = max(1, round(fraction * len(rows_N)))
    taken_N = np.zeros(len(rows_N), dtype=np.bool_)
    taken_N[np.argsort(hashes(seed, 0, rows_N, Stream.FRACTION), kind="stable")[:count]] = True
    return taken_N


def named(tile_ids_N: NDArray[np.bytes_], keys_K: NDArray[np.bytes_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which tiles a list names, bool (N,), and which entries of the list name a tile, bool (K,).

    Args:
        keys_K: tile ids, ascending, each once.
    """
    if not len(keys_K) or not len(tile_ids_N):
        return np.zeros(len(tile_ids_N), np.bool_), np.zeros(len(keys_K), np.bool_)
    place_N = np.minimum(np.searchsorted(keys_K, tile_ids_N), len(keys_K) - 1)
    named_N = keys_K[place_N] == tile_ids_N
    return named_N, _at(place_N[named_N], len(keys_K))


def _at(places: NDArray[Any], length: int) -> NDArray[np.bool_]:
    marked = np.zeros(length, dtype=np.bool_)
    marked[places] = True
    return marked
