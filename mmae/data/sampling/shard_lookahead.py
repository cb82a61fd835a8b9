"""The shards that are read next, so that they can be fetched before they are needed.

Shape suffix: L slots of an epoch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.data.sampling.order import TrainOrder
    from mmae.data.sampling.training_tiles import TrainingTiles

Shards = tuple[tuple[int, ...], ...]
"""For each set, numbers of shards in its index."""


@dataclass
class ShardLookahead:
    """The shards of the window that a run reads and of the next window, returned once for each window.

    Args:
        tiles: what the run reads.
        order: the order in which it reads them.
    """

    tiles: TrainingTiles
    order: TrainOrder
    _epoch: int = field(default=-1, init=False)
    _window_L: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64), init=False)
    _told: tuple[int, int] = field(default=(-1, -1), init=False)

    def at(self, step: int) -> Shards | None:
        """The shards to fetch from this step on, the soonest needed first; None if an earlier call returned them.

        The steps of successive calls ascend.
        """
        epoch, slots = self.order.global_batch_at(step)
        windows_L = self._windows(epoch)
        window = int(windows_L[slots[0]])
        if (epoch, window) == self._told:
            return None
        self._told = epoch, window
        # The next epoch begins with a window of its own.
        following = (epoch, window + 1) if (windows_L == window + 1).any() else (epoch + 1, 0)
        now, then = self._shards(epoch, window), self._shards(*following)
        return tuple(tuple(dict.fromkeys(soon + later)) for soon, later in zip(now, then, strict=True))

    def _windows(self, epoch: int) -> NDArray[np.int64]:
        if epoch != self._epoch:
            whole = self.order.windows
            self._epoch = epoch
            self._window_L = np.zeros(self.order.num_tiles, np.int64) if whole is None else whole(epoch)
        return self._window_L

    def _shards(self, epoch: int, window: int) -> Shards:
        places = self.tiles.locate(epoch, np.flatnonzero(self._windows(epoch) == window))
        return tuple(
            tuple(np.unique(each.index.shard[places.tile_B[places.set_B == number]]).tolist())
            for number, each in enumerate(self.tiles.sets)
        )


def share(shards: Shards, number: int, of: int) -> Shards:
    """The same shards, rotated, so that `of` readers begin with different ones."""
    rotated = []
    for each in shards:
        start = number * len(each) // of
        rotated.append(each[start:] + each[:start])
    return tuple(rotated)
