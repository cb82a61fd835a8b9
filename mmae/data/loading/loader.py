"""Micro-batches from shards. Worker processes decode them in advance, and the training process gets them in order.

`sampling/order.py` decides which tiles a micro-batch holds, and a worker only reads them. So neither the number of
workers nor their speed changes what a step sees.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from mmae.data.loading.micro_batches import MicroBatches
from mmae.data.loading.workers import batches_from_workers
from mmae.data.sampling.batch_requests import Request, training_requests, validation_requests
from mmae.data.sampling.mixture import Places, all_places
from mmae.data.sampling.shard_sets import ShardSet, common_datasets, needed_datasets, split_positions
from mmae.data.sampling.training_tiles import TrainingTiles, training_positions, training_tiles
from mmae.types import Batch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.config.batch_split import BatchSplit
    from mmae.config.schema import DataConfig
    from mmae.data.sampling.order import TrainOrder
    from mmae.data.shards.index import Index

__all__ = ["needed_datasets", "read_batches", "train_batches", "training_positions", "validation_batches"]


def train_batches(
    tiles: TrainingTiles | Index,
    domains: Sequence[str],
    config: DataConfig,
    *,
    seed: int,
    order: TrainOrder,
    split: BatchSplit,
    rank: int,
    start_step: int,
    stop_step: int,
    pin: bool,
) -> Iterator[Batch]:
    """A rank's micro-batches of the steps `start_step` .. `stop_step`-1, `split.accumulation` a step, in order.

    Args:
        tiles: the tiles that training reads, or the index of the only shard set.
        domains: modality names; only the datasets that hold them are read.
        seed: the seed of the tiles' random draws.
        order: the order in which the tiles are read.
        pin: hand over batches in pinned memory (needs a CUDA device).

    Raises:
        InputError: a dataset is missing or a shard cannot be read, here or in a worker.
    """
    if not isinstance(tiles, TrainingTiles):
        tiles = training_tiles(_sets(tiles), config, seed)
    if tiles.mixture.num_slots != order.num_tiles or split.global_batch != order.global_batch:
        raise ValueError(f"{tiles.mixture.num_slots} tiles in batches of {split.global_batch} do not fit {order}")
    reading = MicroBatches(tiles.sets, common_datasets(tiles.sets, domains), seed, config.on_damage == "skip")
    readers = max(1, config.workers)
    requests = partial(training_requests, tiles, order, split, rank, start_step, stop_step, readers)
    return batches_from_workers(
        reading, requests, config, tiles=split.micro, in_hand=2 * split.accumulation + 2, pin=pin
    )


def validation_batches(
    sets: Sequence[ShardSet] | Index,
    domains: Sequence[str],
    config: DataConfig,
    *,
    seed: int,
    split: BatchSplit,
    rank: int,
    pin: bool,
) -> Iterator[Batch]:
    """A rank's batches of the whole `val` split; every rank gets equally many, padding has `real_B` False.

    Of several shard sets, those that have the split are read one after another.
    Arguments and errors are those of `train_batches`; the draws' keys are the same at every validation.
    """
    sets = _sets(sets)
    reading = MicroBatches(sets, common_datasets(sets, domains), seed, config.on_damage == "skip")
    requests = partial(validation_requests, split_positions(sets, "val"), split, rank)
    return batches_from_workers(reading, requests, config, tiles=split.micro, in_hand=3, pin=pin)


def read_batches(
    sets: Sequence[ShardSet] | Index,
    domains: Sequence[str],
    places: Places | NDArray[np.int64],
    *,
    seed: int,
    epoch: int,
    size: int = 32,
) -> Iterator[Batch]:
    """The tiles at some places, in batches of `size` and a shorter last one, read in this process.

    For commands that look at tiles; training reads through `train_batches`.

    Args:
        places: positions in the sets' indexes, or in the first one's.
    """
    sets = _sets(sets)
    places = places if isinstance(places, Places) else all_places([places])
    reading = MicroBatches(sets, common_datasets(sets, domains), seed)
    for start in range(0, len(places), size):
        part = places[start : start + size]
        yield reading.read(Request(part, np.ones(len(part), dtype=np.bool_), epoch)).batch()


def _sets(sets: Sequence[ShardSet] | Index) -> Sequence[ShardSet]:
    return sets if isinstance(sets, Sequence) else [ShardSet(sets)]
