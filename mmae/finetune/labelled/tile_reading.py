"""Tiles of a shard set in batches, by their positions: read in this process, or by workers while training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from mmae.data.loading.micro_batches import MicroBatches
from mmae.data.loading.workers import batches_from_workers
from mmae.data.sampling.batch_requests import Request, validation_requests
from mmae.data.sampling.mixture import Places, all_places
from mmae.data.sampling.order import hashes, rank_slices
from mmae.data.sampling.shard_sets import ShardSet
from mmae.draws import VALIDATION_EPOCH, Stream
from mmae.types import Batch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.config.batch_split import BatchSplit
    from mmae.config.schema import DataConfig
    from mmae.data.sampling.training_tiles import TrainingTiles

_TILES: Final = 32


def read_tiles(each: ShardSet, datasets: Sequence[str], positions: NDArray[np.int64]) -> Iterator[Batch]:
    """The tiles at some positions, in their order, read in this process.

    Raises:
        InputError: a tile is damaged, or a shard is missing.
    """
    reading = MicroBatches([each], datasets, seed=0)
    for start in range(0, len(positions), _TILES):
        places = all_places([positions[start : start + _TILES]])
        yield reading.read(Request(places, np.ones(len(places), np.bool_), VALIDATION_EPOCH)).batch()


def tuning_batches(
    tiles: TrainingTiles,
    datasets: Sequence[str],
    config: DataConfig,
    *,
    seed: int,
    split: BatchSplit,
    rank: int,
    start_step: int,
    stop_step: int,
    partners: bool,
    pin: bool,
) -> Iterator[Batch]:
    """A rank's micro-batches of the steps `start_step` .. `stop_step`-1, `split.accumulation` a step, in order.

    Args:
        partners: append to each micro-batch the partner of each of its tiles, with which it is mixed.
        pin: hand over batches in pinned memory (needs a CUDA device).

    Raises:
        InputError: a dataset is missing or a shard cannot be read, here or in a worker.
    """
    reading = MicroBatches(tiles.sets, datasets, seed)
    size = split.micro * (2 if partners else 1)
    requests = partial(tuning_requests, tiles, split, rank, start_step, stop_step, partners, seed)
    return batches_from_workers(reading, requests, config, tiles=size, in_hand=2 * split.accumulation + 2, pin=pin)


def scoring_batches(
    each: ShardSet,
    positions: NDArray[np.int64],
    datasets: Sequence[str],
    config: DataConfig,
    *,
    split: BatchSplit,
    rank: int,
    pin: bool,
) -> Iterator[Batch]:
    """A rank's batches of the tiles at some positions; every rank gets equally many, padding has `real_B` False.

    Raises:
        InputError: as `tuning_batches`.
    """
    reading = MicroBatches([each], datasets, seed=0)
    requests = partial(validation_requests, [positions], split, rank)
    return batches_from_workers(reading, requests, config, tiles=split.micro, in_hand=3, pin=pin)


def tuning_requests(
    tiles: TrainingTiles, split: BatchSplit, rank: int, start_step: int, stop_step: int, partners: bool, seed: int
) -> Iterator[Request]:
    """The requests behind `tuning_batches`: a pure function, the same on any number of ranks taken together."""
    order = tiles.order(split.global_batch)
    for step in range(start_step, stop_step):
        epoch, slots = order.global_batch_at(step)
        others = slots[partner_places(len(slots), seed, step)] if partners else slots[:0]
        for part in rank_slices(split, rank):
            chosen = np.concatenate([slots[part], others[part]]) if partners else slots[part]
            places: Places = tiles.locate(epoch, chosen)
            yield Request(places, np.ones(len(places), np.bool_), epoch)


def partner_places(size: int, seed: int, step: int) -> NDArray[np.int64]:
    """The place in the global batch of each place's partner, int64 (size,): each is one other's, none its own.

    It depends on (seed, step) only. With a batch of one, the partner is the tile itself.
    """
    order = np.argsort(hashes(seed, step, np.arange(size, dtype=np.int64), Stream.PARTNER), kind="stable")
    partner = np.empty(size, np.int64)
    # Each follows the one before it around a circle.
    partner[order] = np.roll(order, 1)
    return partner
