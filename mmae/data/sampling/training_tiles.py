"""The tiles that training takes from its shard sets, and their order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmae.data.sampling.key_list import KeyList, read_keys
from mmae.data.sampling.mixture import Mixture, Places, all_places
from mmae.data.sampling.order import TrainOrder
from mmae.data.sampling.selection import fraction_of, named
from mmae.data.sampling.shard_sets import ShardSet
from mmae.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.config.schema import DataConfig
    from mmae.data.shards.index import Index


@dataclass(frozen=True, eq=False)
class TrainingTiles:
    """The tiles that training reads.

    Attributes:
        sets: the shard sets in the order of `data.shards`.
        positions: for each set, the positions in its index that training takes, int64, ascending.
        mixture: how often an epoch takes them.
        window: shards among which an epoch shuffles; None: all.
        keys: identity of the list of tile ids that they were chosen by; empty without one.
    """

    sets: tuple[ShardSet, ...]
    positions: tuple[NDArray[np.int64], ...]
    mixture: Mixture
    window: int | None
    keys: str

    def order(self, global_batch: int) -> TrainOrder:
        """The order in which a run reads them. Its positions are slots of the mixture.

        Raises:
            InputError: fewer tiles than one global batch.
        """
        count, seed = self.mixture.num_slots, self.mixture.seed
        if self.window is None:
            return TrainOrder(count, global_batch, seed)
        window, shards = (
            self.window,
            [_dense(each.index, at) for each, at in zip(self.sets, self.positions, strict=True)],
        )
        return TrainOrder(count, global_batch, seed, lambda epoch: self.mixture.windows(shards, window, epoch))

    def sample(self, count: int) -> Places:
        """About `count` tiles, or all: the first ones of each set, in proportion to the set's share of an epoch."""
        every = max(1.0, self.mixture.num_slots / count)
        shares = [
            sum(part.count for part in self.mixture.parts if part.set == number) / every
            for number in range(len(self.sets))
        ]
        return all_places([at[: round(share)] for at, share in zip(self.positions, shares, strict=True)])

    def locate(self, epoch: int, slots_B: NDArray[np.int64]) -> Places:
        """The tiles in the given slots of an epoch, by their positions in the sets' indexes."""
        places = self.mixture.locate(epoch, slots_B)
        for number in np.unique(places.set_B).tolist():
            inside_B = places.set_B == number
            places.tile_B[inside_B] = self.positions[number][places.tile_B[inside_B]]
        return places


def training_tiles(
    sets: Sequence[ShardSet], config: DataConfig, seed: int, order_seed: int | None = None
) -> TrainingTiles:
    """The training tiles of each set: its train split, reduced by `data.keys` and `data.fraction`.

    Args:
        seed: chooses the tiles of `data.fraction`.
        order_seed: draws their order, and which tiles a fraction of a weight takes; None: `seed`.

    Raises:
        InputError: a set has no train split, the list of keys names a tile that none has, or nothing is left.
    """
    keys = read_keys(Path(config.keys)) if config.keys else None
    splits = [each.index.positions("train") for each in sets]
    if keys is not None:
        splits = _named_tiles(sets, splits, keys)
    positions = tuple(_part(each.index, at, config, seed) for each, at in zip(sets, splits, strict=True))
    weights = config.weights or (1.0,) * len(sets)
    mixture = Mixture(tuple(map(len, positions)), weights, seed if order_seed is None else order_seed)
    return TrainingTiles(tuple(sets), positions, mixture, config.window, keys.fingerprint if keys else "")


def training_positions(index: Index, config: DataConfig, seed: int = 0) -> NDArray[np.int64]:
    """Positions in the index of the tiles that training would take of this set alone, int64."""
    return training_tiles([ShardSet(index)], replace(config, weights=None), seed).positions[0]


def _named_tiles(
    sets: Sequence[ShardSet], splits: Sequence[NDArray[np.int64]], keys: KeyList
) -> list[NDArray[np.int64]]:
    found_K = np.zeros(len(keys.sorted), dtype=np.bool_)
    chosen = []
    for each, positions in zip(sets, splits, strict=True):
        named_N, known_K = named(each.index.tile_id[positions], keys.sorted)
        found_K |= known_K
        chosen.append(positions[named_N])
    if not found_K.all():
        folders = ", ".join(str(each.index.folder) for each in sets)
        raise InputError(
            f"{keys.path}: {int((~found_K).sum())} of its {len(found_K)} tile ids are not in the train split of "
            f"{folders}, the first is {keys.first_of(keys.sorted[~found_K])!r}: take them out of the list"
        )
    return chosen


def _part(index: Index, positions: NDArray[np.int64], config: DataConfig, seed: int) -> NDArray[np.int64]:
    if config.fraction < 1 and len(positions):
        positions = positions[fraction_of(index.row[positions], config.fraction, seed)]
    return positions[: config.max_tiles]


def _dense(index: Index, positions: NDArray[np.int64]) -> NDArray[np.int32]:
    """The shard of each tile, numbered from 0 without a gap: shards of other splits take no place in a window."""
    return np.unique(index.shard[positions], return_inverse=True)[1].astype(np.int32)
