"""Tiles of one split that show the same ground as another split: validation losses on them are too good."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Final

import numpy as np

from mmae.data.sampling.shared_ground import (
    APART,
    OVERLAPPING,
    SAME_ID,
    SAME_PLACE,
    Ground,
    ground_of,
    joined,
    shared_ground,
)
from mmae.terminal.plurals import counted

if TYPE_CHECKING:
    from mmae.data.sampling.shard_sets import ShardSet
    from mmae.data.sampling.training_tiles import TrainingTiles
    from mmae.data.shards.index import Index

_NAMED: Final = 3
_TRAIN: Final = "train"
_VAL: Final = "val"


@dataclass(frozen=True)
class Leak:
    """How many tiles of a split show ground that another split shows too, and the first of them.

    Attributes:
        split: the split of the counted tiles.
        other: the split with which the ground is shared.
        of: tiles of `split`.
        same_id, same_place, overlapping: each tile is counted once, as the closest of these.
        pairs: ids of the first such tiles, each with a tile of the other split.
    """

    split: str
    other: str
    of: int
    same_id: int
    same_place: int
    overlapping: int
    pairs: tuple[tuple[str, str], ...]

    @property
    def tiles(self) -> int:
        return self.same_id + self.same_place + self.overlapping

    def __str__(self) -> str:
        kinds = {
            "the same tile id": self.same_id,
            "the same place": self.same_place,
            "an overlapping footprint": self.overlapping,
        }
        listed = ", ".join(f"{count} with {kind}" for kind, count in kinds.items() if count)
        pairs = ", ".join(
            f"{first!r} and {second!r}" if first != second else repr(first) for first, second in self.pairs
        )
        return (
            f"{self.tiles} of {counted(self.of, 'tile')} of {self.split} show ground that {self.other} shows too "
            f"({listed}; the first: {pairs})"
        )


def trained_ground(tiles: TrainingTiles) -> Ground:
    """The ground of the tiles that a run is trained on, set after set."""
    return joined([ground_of(each.index, at) for each, at in zip(tiles.sets, tiles.positions, strict=True)])


def leak(sets: Sequence[ShardSet], trained: Ground) -> Leak | None:
    """The tiles that the val splits of a run's sets share with its training tiles; None if there are none."""
    val = [ground_of(each.index, each.index.of_split(_VAL)) for each in sets]
    return _leak(_VAL, joined(val), _TRAIN, trained)


def leaks_of_set(index: Index) -> list[Leak]:
    """The tiles that the splits of one set share with one another."""
    return leaks_between({name: ground_of(index, index.of_split(name)) for name in index.splits})


def leaks_between(splits: Mapping[str, Ground]) -> list[Leak]:
    """The tiles that splits share. Where one of two splits is train, the tiles of the other one are counted."""
    names = sorted(splits, key=lambda name: name != _TRAIN)
    found = (_leak(name, splits[name], other, splits[other]) for other, name in combinations(names, 2))
    return [each for each in found if each is not None]


def warnings(leaks: list[Leak]) -> Iterator[str]:
    """One line for each leak of a set, with what to do."""
    for each in leaks:
        yield (
            f"WARNING: {each}: losses on {each.split} look better than they are; keep such tiles in one split "
            "(repack with --splits FILE, or without a val and with --val-fraction)"
        )


def _leak(split: str, asked: Ground, other: str, others: Ground) -> Leak | None:
    kind_A, other_A = shared_ground(asked, others)
    shared = np.flatnonzero(kind_A != APART)
    if not len(shared):
        return None
    first = shared[np.argsort(kind_A[shared], kind="stable")][:_NAMED]
    pairs = zip(asked.tile_id[first].tolist(), others.tile_id[other_A[first]].tolist(), strict=True)
    named = tuple((one.decode("utf-8", "replace"), two.decode("utf-8", "replace")) for one, two in pairs)
    count = np.bincount(kind_A, minlength=OVERLAPPING + 1).tolist()
    return Leak(split, other, len(asked), count[SAME_ID], count[SAME_PLACE], count[OVERLAPPING], named)
