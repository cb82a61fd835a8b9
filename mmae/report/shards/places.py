"""Where the tiles of a shard set lie, and how far its splits are apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from mmae.data.sampling.earth_grid import EARTH_KM, unit_vectors
from mmae.report.page.ticks import short

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.data.shards.index import Index

_ASKED: Final = 500
"""Tiles of a split whose nearest training tile is looked for."""
_CHUNK: Final = 1 << 16


def places_of(index: Index, split: str) -> NDArray[np.float64]:
    """Degrees north and east of a split's tiles, (N, 2), without unknown places."""
    at = index.of_split(split)
    places = np.stack([index.lat[at], index.lon[at]], axis=1)
    known: NDArray[np.float64] = places[np.isfinite(places).all(axis=1)]
    return known


def distance_line(index: Index, split: str) -> str:
    """How far tiles of a split are from the nearest training tile; empty where either has no known place."""
    asked, train = places_of(index, split), places_of(index, "train")
    if not len(asked) or not len(train):
        return ""
    some = asked[np.linspace(0, len(asked) - 1, min(_ASKED, len(asked))).astype(np.int64)]
    km_A = nearest_km(some, train)
    least, middle, most = (short(round(float(km), 2)) for km in (km_A.min(), np.median(km_A), km_A.max()))
    return (
        f"From a tile of {split} to the nearest one of train it is {least} km at least, {middle} km in the middle and "
        f"{most} km at most ({len(some)} tiles were asked)."
    )


def nearest_km(asked_A2: NDArray[np.float64], others_T2: NDArray[np.float64]) -> NDArray[np.float64]:
    """Kilometres from each place to the nearest of the others, float64 (A,)."""
    asked_A3 = unit_vectors(asked_A2[:, 0], asked_A2[:, 1])
    nearest_A = np.full(len(asked_A2), np.inf)
    for begin in range(0, len(others_T2), _CHUNK):
        part = others_T2[begin : begin + _CHUNK]
        # Chords, because near 1 the cosine of a small angle has few digits left.
        squares_AT = 2 - 2 * asked_A3 @ unit_vectors(part[:, 0], part[:, 1]).T
        nearest_A = np.minimum(nearest_A, squares_AT.min(axis=1))
    angles_A = 2 * np.arcsin(np.clip(np.sqrt(np.maximum(nearest_A, 0)) / 2, 0, 1))
    km_A: NDArray[np.float64] = EARTH_KM * angles_A
    return km_A
