"""The leak check: which samples of a benchmark lie near a tile that a model was pretrained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from mmae.data.sampling.earth_grid import EARTH_KM, EarthGrid, unit_vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.evaluate.benchmark.tasks.benchmark_task import BenchmarkTask

NEAR_KM: Final = 1.0
_TRAIN: Final = "train"


@dataclass(frozen=True)
class Nearness:
    """How many samples of a test lie near pretraining tiles.

    Attributes:
        known: samples whose places are known.
        near: those of them that are near.
    """

    known: int
    near: int


class PretrainingPlaces:
    """The places of the tiles that a model was pretrained on: those of the shards' `train`, or all without one."""

    def __init__(self, locations: Sequence[str], cache_dir: str | None = None) -> None:
        """Read the places of shard sets.

        Raises:
            InputError: a set cannot be read.
        """
        from mmae.data.remote.open_shards import open_shards
        from mmae.data.sampling.shard_sets import ShardSet

        found = []
        for location in locations:
            index = ShardSet(*open_shards(location, cache_dir, 100.0)).index
            chosen = index.of_split(_TRAIN) if _TRAIN in index.splits else np.arange(len(index))
            found.append(np.stack([index.lat[chosen], index.lon[chosen]], axis=1).astype(np.float64))
        places_N2 = np.concatenate(found)
        self.places_N2 = places_N2[np.isfinite(places_N2).all(1)]

    def nearness(self, task: BenchmarkTask, test: str) -> Nearness:
        """Of a task's test. A sample is near if a pretraining tile's middle is within 1 km of a circle around it.

        Raises:
            InputError: as the task's reader.
        """
        places = task.places(task.splits[test])
        if places is None:
            return Nearness(0, 0)
        known_N2 = places[np.isfinite(places).all(1)]
        return Nearness(len(known_N2), int(near(known_N2, self.places_N2, NEAR_KM + task.half_diagonal_km).sum()))


def near(asked_A2: NDArray[np.float64], others_T2: NDArray[np.float64], km: float) -> NDArray[np.bool_]:
    """Which places, latitude and longitude in degrees, lie within a distance of one of the others, bool (A,)."""
    found_A = np.zeros(len(asked_A2), bool)
    if not len(asked_A2) or not len(others_T2):
        return found_A
    grid = EarthGrid(km)
    cells_T = grid.keys(*others_T2.T)
    order = np.argsort(cells_T, kind="stable")
    cells_T, points_T3 = cells_T[order], unit_vectors(*others_T2.T)[order]
    cells_A, points_A3 = grid.keys(*asked_A2.T), unit_vectors(*asked_A2.T)
    # The chord of an arc.
    most = 2 * np.sin(km / EARTH_KM / 2)
    for column in grid.columns:
        begin_A = np.searchsorted(cells_T, cells_A + column - 1, side="left")
        end_A = np.searchsorted(cells_T, cells_A + column + 1, side="right")
        left = np.flatnonzero((begin_A < end_A) & ~found_A)
        # One candidate of each at a time: few have many, and most stop at the first.
        while len(left):
            apart = np.linalg.norm(points_A3[left] - points_T3[begin_A[left]], axis=1)
            found_A[left] = apart <= most
            begin_A[left] += 1
            left = left[~found_A[left] & (begin_A[left] < end_A[left])]
    return found_A
