"""A sample of a run's tiles, compared with the band statistics and class tables that it will be trained with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmae.data.checks.units import SAMPLE_TILES, Remedy, before_packing
from mmae.data.checks.value_check import check_values
from mmae.data.shards.reader import DamagedTile
from mmae.errors import InputError
from mmae.modalities import MODALITIES, S2_LEVELS, Modality

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.data.sampling.shard_sets import ShardSet
    from mmae.types import Tile

_LEAST_TILES: Final = 8
_SWITCH: Final = "data.check_units=false"


def check_sample(
    each: ShardSet,
    positions: NDArray[np.int64],
    split: str,
    domains: Sequence[str],
    band_stats: Mapping[str, Any],
    sets: int = 1,
    units: bool = True,
    remedy: Remedy = before_packing,
    table: Mapping[str, Modality] = MODALITIES,
) -> None:
    """Refuse tiles whose stored values cannot be what the statistics say, or that have bands without statistics.

    A few tiles of each Sentinel-2 level are read; from a remote set, only tiles of its first shard. Unreadable tiles
    are ignored here: the training's reader will report them.

    Args:
        each: the shard set.
        positions: the positions of the split's tiles in the set's index, in stored order.
        split: the split's name, for the message.
        sets: number of shard sets: the more sets, the fewer tiles of each are read.
        units: whether values are compared. False: only check that each band with data has statistics.
        remedy: what the user can do about values in other units, for the message.
        table: what the modalities are.

    Raises:
        InputError: the values do not fit; the message says what to do.
    """
    index = each.index
    where = f"{index.folder} ({split})"
    names = tuple(dict.fromkeys(MODALITIES[name].dataset for name in domains))
    if each.store is not None and len(positions):
        positions = positions[index.shard[positions] == index.shard[positions[0]]]
    count = max(_LEAST_TILES, SAMPLE_TILES // sets)
    for number, level in enumerate(S2_LEVELS):
        chosen = positions[index.level[positions] == number][:count]
        tiles = list(_tiles(each, names, chosen))
        if not tiles:
            continue
        arrays = {name: np.stack([tile.arrays[name] for tile in tiles]) for name in names}
        check_values(where, arrays, level, domains, band_stats, units, _SWITCH, remedy, each.bands, table=table)


def _tiles(each: ShardSet, names: Sequence[str], positions: NDArray[np.int64]) -> Iterator[Tile]:
    reader = each.reader(names)
    try:
        for position in positions.tolist():
            with suppress(DamagedTile):
                yield reader.read(position)
    except InputError:
        return
    finally:
        reader.close()
        if each.store is not None:
            each.store.close()
