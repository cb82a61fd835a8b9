"""The plan of a repack: the rows of each shard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from data_tools.repack.geographic_split import draw_by_place, place_groups
from data_tools.source.json_files import TRAIN, VAL
from mmae.data.shards.tar_layout import shard_name
from mmae.draws import tile_keys
from mmae.errors import InputError
from mmae.terminal.plurals import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from data_tools.source.dataset import Source
    from data_tools.source.tile_info import Facts

_ORDER_DRAW: Final = 0


@dataclass(frozen=True, eq=False)
class PlannedShard:
    """A shard to write: its file name, its split, its source rows in stored order (int64)."""

    name: str
    split: str
    rows: NDArray[np.int64]


def plan_splits(source: Source, facts: Facts, val_fraction: float, seed: int) -> dict[str, NDArray[np.int64]]:
    """The source's splits. With a fraction, whole places are moved from `train` to `val`.

    Raises:
        InputError: a fraction is given, but the source has a `val`, or places are unknown, or train is one place.
    """
    splits = dict(source.splits)
    if val_fraction == 0:
        return splits
    if len(splits.get(VAL, ())):
        raise InputError(
            f"{source.path}: has {counted(len(splits[VAL]), 'tile')} in val already: leave --val-fraction out"
        )
    train = splits[TRAIN]
    placed = train[np.isfinite(facts.lat[train]) & np.isfinite(facts.lon[train])]
    if len(placed) == 0:
        raise InputError(f"{source.path}: no tile of train has lat and lon: --val-fraction cannot tell places apart")
    # A tile without a known place is never drawn: val must not show places that train has seen.
    groups = place_groups(facts.lat[placed], facts.lon[placed])
    splits[VAL] = draw_by_place(placed, groups, val_fraction, seed)
    splits[TRAIN] = train[~np.isin(train, splits[VAL])]
    if len(splits[TRAIN]) == 0:
        raise InputError(f"{source.path}: all tiles of train lie in one place: leave --val-fraction out")
    return splits


def plan_shards(splits: Mapping[str, NDArray[np.int64]], tiles_per_shard: int, seed: int) -> list[PlannedShard]:
    """Rows of each split in the order of a seeded hash, cut into shards of nearly equal length.

    Each shard, and each run of shards from the first, is therefore a fair sample of its split.
    """
    planned = []
    for split, rows in splits.items():
        ordered = rows[np.argsort(tile_keys(seed, _ORDER_DRAW, rows), kind="stable")]
        count = -(-len(rows) // tiles_per_shard)
        parts = np.array_split(ordered, count) if count else []
        planned += [PlannedShard(shard_name(split, number), split, part) for number, part in enumerate(parts)]
    return planned
