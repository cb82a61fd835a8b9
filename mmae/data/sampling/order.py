"""Which tiles a step reads: pure functions over integers, without I/O and without state.

The order of an epoch is a hash of (seed, epoch, position); ranks, micro-batches and workers take slices
of it. A run's data state is therefore one integer, the step, whatever the world that continues it.

Shape suffixes: B tiles of a batch, N tiles of an epoch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

from mmae.draws import Stream, mix, tile_keys
from mmae.errors import InputError
from mmae.terminal.plurals import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.config.batch_split import BatchSplit

ORDER_VERSION: Final = 1
"""Version of the order. It must increase with every change that makes a step read other tiles."""


def epoch_order(num_tiles: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The permutation of 0 .. num_tiles-1 in which an epoch reads its tiles, int64 (num_tiles,)."""
    return _permutation(num_tiles, seed, epoch, Stream.ORDER)


def windowed_order(window_N: NDArray[np.int64], seed: int, epoch: int) -> NDArray[np.int64]:
    """The permutation of 0 .. N-1 that reads the tiles of window 0, then those of window 1, ..., each shuffled.

    With a single window it is `epoch_order`.

    Args:
        window_N: the window of each tile.
    """
    order_N = epoch_order(len(window_N), seed, epoch)
    return order_N[np.argsort(window_N[order_N], kind="stable")]


def window_numbers(num_shards: int, window: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The window of each shard in an epoch, int64 (num_shards,): `window` shards each, the last one perhaps fewer."""
    numbers = np.empty(num_shards, dtype=np.int64)
    numbers[_permutation(num_shards, seed, epoch, Stream.SHARD_ORDER)] = np.arange(num_shards) // window
    return numbers


def hashes(seed: int, epoch: int, rows_N: NDArray[np.int64], stream: Stream) -> NDArray[np.int64]:
    """A random number for each of `rows_N`, int64 (N,), which depends on the arguments only."""
    key_N = tile_keys(seed, epoch, rows_N)
    return mix(key_N ^ mix(np.full_like(key_N, int(stream))))


def _permutation(length: int, seed: int, epoch: int, stream: Stream) -> NDArray[np.int64]:
    # Sorted hashes rather than a numpy Generator: numpy may change a Generator's stream between versions.
    key = hashes(seed, epoch, np.arange(length, dtype=np.int64), stream)
    return np.argsort(key, kind="stable").astype(np.int64, copy=False)


Windows = Callable[[int], "NDArray[np.int64]"]
"""Epoch -> the window that it reads each tile in, int64 (num_tiles,)."""


@lru_cache(maxsize=2)
def _current_order(num_tiles: int, seed: int, windows: Windows | None, epoch: int) -> NDArray[np.int64]:
    order = epoch_order(num_tiles, seed, epoch) if windows is None else windowed_order(windows(epoch), seed, epoch)
    order.setflags(write=False)
    return order


@dataclass(frozen=True)
class TrainOrder:
    """The tiles of each step of a training run.

    An epoch drops only its last, incomplete global batch; another epoch drops other tiles.

    Args:
        num_tiles: how many tiles an epoch reads.
        windows: given if an epoch shuffles within windows only.

    Raises:
        InputError: the split holds fewer tiles than one global batch.
    """

    num_tiles: int
    global_batch: int
    seed: int
    windows: Windows | None = None

    def __post_init__(self) -> None:
        if not self.num_tiles:
            raise InputError("the train split holds no tiles: repack a data set whose splits file names some")
        if self.num_tiles < self.global_batch:
            raise InputError(
                f"train.global_batch={self.global_batch} is more than the {counted(self.num_tiles, 'training tile')}: "
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
        order = _current_order(self.num_tiles, self.seed, self.windows, epoch)
        return epoch, order[start : start + self.global_batch]


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
    no rank waits for another. The last batches are padded with repeats of the last tile, which do not count.
    """
    rounds = -(-num_tiles // (micro * world))
    batches = []
    for number in range(rounds):
        start = (number * world + rank) * micro
        positions_B = np.arange(start, start + micro, dtype=np.int64)
        batches.append((np.minimum(positions_B, num_tiles - 1), positions_B < num_tiles))
    return batches
