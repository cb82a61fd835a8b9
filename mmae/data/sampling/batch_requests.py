"""The requests of a rank to its workers, one for each micro-batch. Pure functions: tests cover a grid of worlds.

Shape suffix: B tiles.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mmae.data.sampling.mixture import Places, all_places
from mmae.data.sampling.order import rank_slices, validation_batches
from mmae.data.sampling.shard_lookahead import ShardLookahead, Shards, share
from mmae.draws import VALIDATION_EPOCH

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.config.batch_split import BatchSplit
    from mmae.data.sampling.order import TrainOrder
    from mmae.data.sampling.training_tiles import TrainingTiles


@dataclass(frozen=True, eq=False)
class Request:
    """One micro-batch to read: positions in the sets' indexes, which of them count (bool, B), and the epoch.

    `ahead`, if given, lists shards that the reader should fetch in the background, the soonest needed first.
    """

    places: Places
    real_B: NDArray[np.bool_]
    epoch: int
    ahead: Shards | None = None


Requests = Callable[[], Iterator[Request]]


def training_requests(
    tiles: TrainingTiles,
    order: TrainOrder,
    split: BatchSplit,
    rank: int,
    start_step: int,
    stop_step: int,
    readers: int = 1,
) -> Iterator[Request]:
    """A rank's micro-batches of the steps `start_step` .. `stop_step`-1, `split.accumulation` a step, in order.

    Args:
        readers: processes that take the rank's requests in turns.
    """
    real_B = np.ones(split.micro, dtype=np.bool_)
    look = ShardLookahead(tiles, order) if any(each.store is not None for each in tiles.sets) else None
    news: deque[Shards] = deque()
    for step in range(start_step, stop_step):
        epoch, slots = order.global_batch_at(step)
        if look is not None and (shards := look.at(step)) is not None:
            news = deque(share(shards, rank * readers + number, split.world * readers) for number in range(readers))
        for part in rank_slices(split, rank):
            yield Request(tiles.locate(epoch, slots[part]), real_B, epoch, news.popleft() if news else None)


def validation_requests(positions: Sequence[NDArray[np.int64]], split: BatchSplit, rank: int) -> Iterator[Request]:
    """A rank's batches of the tiles at `positions` of each set; every rank has equally many, padding does not count."""
    places = all_places(positions)
    for tiles_B, real_B in validation_batches(len(places), split.micro, split.world, rank):
        yield Request(places[tiles_B], real_B, VALIDATION_EPOCH)
