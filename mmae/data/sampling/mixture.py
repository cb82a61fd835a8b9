"""The tiles of an epoch when shard sets are mixed by weight: pure functions over integers.

An epoch is a row of slots, part after part: every tile of set 0, every tile of set 0 again, ..., a fresh choice of
tiles of set 0, every tile of set 1, ... Its length never changes. `order` decides in which order the slots
are read. With one set of weight 1 the slots are the tiles.

Shape suffixes: B tiles asked for, L slots of an epoch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from mmae.data.sampling.order import hashes, window_numbers
from mmae.draws import Stream, draw_rows
from mmae.errors import InputError
from mmae.terminal.plurals import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Part:
    """A complete or partial pass through a set: `count` of its `tiles` tiles, in the slots from `start` on."""

    set: int
    repeat: int
    tiles: int
    count: int
    start: int


@dataclass(frozen=True, eq=False)
class Places:
    """Tiles of several sets.

    Attributes:
        set_B: int64, which set.
        repeat_B: int64, how often the epoch has taken the tile before.
        tile_B: int64, which tile of the set: counted among those that it gives, or a position in its index.
    """

    set_B: NDArray[np.int64]
    repeat_B: NDArray[np.int64]
    tile_B: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.tile_B)

    def __getitem__(self, some: NDArray[np.int64] | slice) -> Places:
        return Places(self.set_B[some], self.repeat_B[some], self.tile_B[some])


def all_places(positions: Sequence[NDArray[np.int64]]) -> Places:
    """The tiles at `positions` of set 0, then those of set 1, ..., each taken once."""
    tile_B = np.concatenate([*positions, np.empty(0, np.int64)])
    set_B = np.repeat(np.arange(len(positions)), [len(each) for each in positions])
    return Places(set_B, np.zeros_like(tile_B), tile_B)


@dataclass(frozen=True)
class Mixture:
    """How much an epoch takes of each set.

    Args:
        sizes: tiles that each set gives.
        weights: how often a tile of each set is taken in an epoch, on average: a weight of 2.5 is two passes and
            a choice of half of the tiles, another half in every epoch.
        seed: the seed of the choices.

    Raises:
        InputError: a weight is so small that no tile of its set is taken.
    """

    sizes: tuple[int, ...]
    weights: tuple[float, ...]
    seed: int

    def __post_init__(self) -> None:
        taken = {part.set for part in self.parts}
        for number, (size, weight) in enumerate(zip(self.sizes, self.weights, strict=True)):
            if size and number not in taken:
                raise InputError(
                    f"data.weights: {weight:g} of the {counted(size, 'tile')} of shard set {number} is not one tile: "
                    f"use at least {1 / size:.2g}, or leave the set out"
                )

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The passes of an epoch, in the order of their slots; none is empty."""
        parts: list[Part] = []
        start = 0
        for number, (size, weight) in enumerate(zip(self.sizes, self.weights, strict=True)):
            whole = math.floor(weight)
            for repeat, count in enumerate([size] * whole + [round((weight - whole) * size)]):
                if count:
                    parts.append(Part(number, repeat, size, count, start))
                    start += count
        return tuple(parts)

    @property
    def num_slots(self) -> int:
        """Tiles that an epoch takes, with repeats."""
        return sum(part.count for part in self.parts)

    def locate(self, epoch: int, slots_B: NDArray[np.int64]) -> Places:
        """The tiles in the given slots of an epoch."""
        starts = np.array([part.start for part in self.parts], np.int64)
        part_B = np.searchsorted(starts, slots_B, side="right") - 1
        tile_B = slots_B - starts[part_B]
        for number in np.unique(part_B).tolist():
            if self.parts[number].count < self.parts[number].tiles:
                inside_B = part_B == number
                tile_B[inside_B] = _choice(self.parts[number], self.seed, epoch)[tile_B[inside_B]]
        set_B, repeat_B = (np.array(column, np.int64)[part_B] for column in self._columns)
        return Places(set_B, repeat_B, tile_B)

    def windows(self, shards: Sequence[NDArray[np.int32]], window: int, epoch: int) -> NDArray[np.int64]:
        """The number of the window in which each slot of an epoch is read, int64 (L,), from 0.

        Each pass through a set reads its shards anew; the shards of all passes are drawn into windows together.

        Args:
            shards: the shard of each tile of each set, numbered from 0 without a gap.
            window: shards in a window.
        """
        first, units_L = 0, []
        for part in self.parts:
            shard_N = shards[part.set]
            chosen_N = shard_N if part.count == part.tiles else shard_N[_choice(part, self.seed, epoch)]
            units_L.append(first + chosen_N.astype(np.int64))
            first += int(shard_N.max()) + 1
        return window_numbers(first, window, self.seed, epoch)[np.concatenate(units_L)]

    @cached_property
    def _columns(self) -> tuple[list[int], list[int]]:
        return [part.set for part in self.parts], [part.repeat for part in self.parts]


@lru_cache(maxsize=16)
def _choice(part: Part, seed: int, epoch: int) -> NDArray[np.int64]:
    """The tiles that an incomplete pass takes, ascending."""
    rows = draw_rows(np.arange(part.tiles, dtype=np.int64), part.set, part.repeat)
    chosen = np.sort(np.argpartition(hashes(seed, epoch, rows, Stream.REPEAT), part.count)[: part.count])
    chosen.setflags(write=False)
    return chosen
