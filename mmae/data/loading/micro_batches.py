"""One requested micro-batch, read from its shards into arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mmae.draws import draw_rows, tile_keys
from mmae.types import Batch, Damage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.data.sampling.batch_requests import Request
    from mmae.data.sampling.shard_sets import ShardSet
    from mmae.data.shards.reader import DamagedTile, TileReader

Pixels = Mapping[str, "NDArray[Any]"]
"""Dataset -> (B, *tile shape) of the stored dtype."""


@dataclass(frozen=True, eq=False)
class Arrays:
    """The arrays of a `Batch`, with the same attributes."""

    pixels: Pixels
    level_B: NDArray[np.uint8]
    row_B: NDArray[np.int64]
    key_B: NDArray[np.int64]
    real_B: NDArray[np.bool_]
    damaged: tuple[Damage, ...]

    def batch(self) -> Batch:
        """A `Batch` that shares these arrays' memory."""
        return Batch(
            pixels={name: torch.from_numpy(array) for name, array in self.pixels.items()},
            level_B=torch.from_numpy(self.level_B),
            row_B=torch.from_numpy(self.row_B),
            key_B=torch.from_numpy(self.key_B),
            real_B=torch.from_numpy(self.real_B),
            damaged=self.damaged,
        )


class MicroBatches:
    """Reads micro-batches of some datasets. Shards are opened in the process that reads.

    Args:
        sets: the shard sets that requests refer to.
        datasets: stored alike in each set.
        seed: the seed of the tiles' random draws.
        skip: whether damaged tiles are skipped.
    """

    def __init__(self, sets: Sequence[ShardSet], datasets: Sequence[str], seed: int, skip: bool = False) -> None:
        self.infos = {name: sets[0].index.datasets[name] for name in datasets}
        self._sets = sets
        self._seed = seed
        self._skip = skip
        self._readers: list[TileReader] = []

    def read(self, request: Request, pixels: Pixels | None = None) -> Arrays:
        """The micro-batch, in the given arrays or in new ones.

        Raises:
            DamagedTile: a tile is damaged, and `skip` is False.
            InputError: a shard is missing.
        """
        places, size = request.places, len(request.places)
        if not self._readers:
            self._readers = [each.reader(list(self.infos)) for each in self._sets]
        for each, shards in zip(self._sets, request.ahead or (), strict=False):
            if each.store is not None:
                each.store.will_need(shards)
        groups = [(number, np.flatnonzero(places.set_B == number)) for number in np.unique(places.set_B).tolist()]
        row_B, level_B = np.empty(size, np.int64), np.empty(size, np.uint8)
        for number, slots in groups:
            positions = places.tile_B[slots]
            self._readers[number].will_need(positions)
            row_B[slots] = self._sets[number].index.row[positions]
            level_B[slots] = self._sets[number].index.level[positions]
        if pixels is None:
            pixels = {name: np.empty((size, *info.shape), info.dtype) for name, info in self.infos.items()}
        real_B = request.real_B.copy()
        found: dict[int, DamagedTile] = {}
        for number, slots in groups:
            on_damage = found.__setitem__ if self._skip else None
            self._readers[number].read_into(places.tile_B[slots], pixels, slots.tolist(), on_damage)
        damaged = tuple(_left_out(found, pixels, real_B))
        key_B = tile_keys(self._seed, request.epoch, draw_rows(row_B, places.set_B, places.repeat_B))
        return Arrays(pixels, level_B, row_B, key_B, real_B, damaged)


def _left_out(found: Mapping[int, DamagedTile], pixels: Pixels, real_B: NDArray[np.bool_]) -> Iterator[Damage]:
    """The damage of the tiles that count. A damaged tile becomes zeros, and its `real_B` becomes False."""
    for slot, error in sorted(found.items()):
        for array in pixels.values():
            array[slot] = 0
        if real_B[slot]:
            yield Damage(str(error.shard), error.row, error.dataset, error.offset, error.what)
        real_B[slot] = False
