"""Tiles that are validated on in one shard set and trained on in another: a loss of theirs says nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mmae.data.selection import named
from mmae.data.sets import has_split

if TYPE_CHECKING:
    from mmae.data.training_tiles import TrainingTiles


@dataclass(frozen=True)
class Leak:
    """How many of the tiles of the val splits are trained on, by their ids, and the first of them."""

    tiles: int
    of: int
    first: str

    def __str__(self) -> str:
        return (
            f"{self.tiles} of {self.of} validation tiles are trained on in another of the sets in data.shards, the "
            f"first is {self.first!r}: validation losses look better than they are (repack the sets with the same "
            "splits, or leave these tiles out with data.keys)"
        )


def leak(tiles: TrainingTiles) -> Leak | None:
    """The leak of a run's sets; None where there is none. Within one set the splits are disjoint."""
    val = [each.index.tile_id[each.index.positions("val")] for each in tiles.sets if has_split(each.index, "val")]
    if len(tiles.sets) < 2 or not val:
        return None
    trained = [each.index.tile_id[at] for each, at in zip(tiles.sets, tiles.positions, strict=True)]
    val_N = np.concatenate(val)
    leaked = val_N[named(val_N, np.unique(np.concatenate(trained)))[0]]
    return Leak(len(leaked), len(val_N), leaked[0].decode()) if len(leaked) else None
