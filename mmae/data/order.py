"""Which tiles a step reads: pure functions over integers, without I/O and without state.

The order of an epoch is a hash of (seed, epoch, position); ranks, micro-batches and workers take slices
of it. A run's data state is therefore one integer, the step, whatever the world that continues it.

Shape suffix: B tiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

from mmae.draws import Stream, mix, tile_keys
from mmae.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.batching import BatchSplit

ORDER_VERSION: Final = 1
"""Part of what makes a run reproducible: raised whenever `epoch_order` would answer differently."""


def epoch_order(num_tiles: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The permutation of 0 .. num_tiles-1 in which an epoch reads its tiles, int64 (num_tiles,)."""
    # Sorted hashes rather than a numpy Generator: numpy may change a Generator's stream between versions.
    key = tile_keys(seed, epoch, np.arange(num_tiles, dtype=np.int64))
    key = mix(key ^ mix(np.full_like(key, int(Stream.ORDER))))
    return np.argsort(key, kind="stable").astype(np.int64, copy=False)


@lru_cache(maxsize=2)
def _current_order(num_tiles: int, seed: int, epoch: int) -> NDArray[np.int64]:
    order = epoch_order(num_tiles, seed, epoch)
    order.setflags(write=False)
    return order


@dataclass(frozen=True)
class TrainOrder:
    """The way of a training run through its split, step by step.

    An epoch drops only its last, incomplete global batch; another epoch drops other tiles.

    Raises:
        InputError: the split holds fewer tiles than one global batch.
    """

    num_tiles: int
    global_batch: int
    seed: int

    def __post_init__(self) -> None:
        if not self.num_tiles:
            raise InputError("the train split holds no tiles: repack a data set whose splits file names some")
        if self.num_tiles < self.global_batch:
            raise InputError(
                f"train.global_batch={self.global_batch} is more than the {self.num_tiles} training tiles: "
                f"the nearest that works is train.global_batch={self.num_tiles}"
            )

    @property
    def steps_per_epoch(self) -> int:
        return self.num_tiles // self.global_batch

    def epoch(self, step: int) -> int:
        """The epoch that `step` (from 0) belongs to."""
        return step // self.steps_per_epoch

    def global_batch_at(self, step: int) -> tuple[int, NDArray[np.int64]]:
        """The epoch of `step`, and its tiles: int64 (global_batch,) positions within the split, read-only."""
        epoch, within = divmod(step, self.steps_per_epoch)
        start = within * self.global_batch
        return epoch, _current_order(self.num_tiles, self.seed, epoch)[start : start + self.global_batch]


def rank_slices(split: BatchSplit, rank: int) -> list[slice]:
    """The part of a global batch that each micro-batch of a rank takes, in the order it runs them.

    A micro-step takes one contiguous part of the global batch over all ranks.
    """
    starts = [(step * split.world + rank) * split.micro for step in range(split.accumulation)]
    return [slice(start, start + split.micro) for start in starts]


def validation_batches(
    num_tiles: int, micro: int, world: int, rank: int
) -> list[tuple[NDArray[np.int64], NDArray[np.bool_]]]:
    """A rank's validation batches: positions int64 (B,) within the split and which of them count, bool (B,).

    Over all ranks every tile counts once. Every rank gets the same number of full batches, so that
    no rank waits for another: the last ones are padded with repeats of the last tile that do not count.
    """
    rounds = -(-num_tiles // (micro * world))
    batches = []
    for number in range(rounds):
        start = (number * world + rank) * micro
        positions_B = np.arange(start, start + micro, dtype=np.int64)
        batches.append((np.minimum(positions_B, num_tiles - 1), positions_B < num_tiles))
    return batches
