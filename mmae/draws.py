"""Counter-based random draws: what happens to a tile depends on (seed, epoch, tile), and on nothing else.

Every draw is a hash of a key and a counter. No generator is carried along, so rank, worker, world
size and restarts cannot change a draw, and a whole batch is drawn in a few vector operations.

The hash is the output function of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom
number generators", OOPSLA 2014). It is written for signed 64-bit integers with wrap-around, which
numpy arrays and torch tensors share, so that one function serves both and gives the same bits on every device.

Shape suffixes: B tiles, R draws a tile.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

Ints = TypeVar("Ints", "NDArray[np.int64]", "Tensor")


class Stream(IntEnum):
    """The purpose of a draw. Draws depend on these values, so append new ones and never renumber."""

    CROP = 1
    FLIP = 2
    MASK_SUBSET = 3
    MASK_SHARES = 4
    MASK_WITHIN = 5
    MASK_UNION = 6
    ORDER = 7
    SHARD_ORDER = 8
    REPEAT = 9
    FRACTION = 10
    DROP_PATH = 11
    MIX = 12
    ERASE = 13
    BLOCKS = 14
    PARTNER = 15
    PROBES = 16


_ROW_BITS: Final = 40
_REPEAT_SHIFT: Final = 52
MAX_SETS: Final = 1 << (_REPEAT_SHIFT - _ROW_BITS)
MAX_REPEATS: Final = 1 << (63 - _REPEAT_SHIFT)

VALIDATION_EPOCH: Final = -1
"""The epoch from which validation draws its masks. Training never reaches it, and every validation uses it."""


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


_GOLDEN: Final = _signed(0x9E3779B97F4A7C15)
_MIX_1: Final = _signed(0xBF58476D1CE4E5B9)
_MIX_2: Final = _signed(0x94D049BB133111EB)


def mix(z: Ints) -> Ints:
    """SplitMix64's output function, element by element, on int64 with wrap-around."""
    z = (z ^ ((z >> 30) & ((1 << 34) - 1))) * _MIX_1
    z = (z ^ ((z >> 27) & ((1 << 37) - 1))) * _MIX_2
    return z ^ ((z >> 31) & ((1 << 33) - 1))


def _absorb(key: Ints, word: Ints) -> Ints:
    return mix((key ^ mix(word + _GOLDEN)) + _GOLDEN)


def tile_keys(seed: int, epoch: int, rows_B: NDArray[np.int64]) -> NDArray[np.int64]:
    """One key for each tile: a hash of (seed, epoch, source row), int64 (B,)."""
    rows_B = np.asarray(rows_B, dtype=np.int64)
    key = _absorb(np.zeros_like(rows_B), np.full_like(rows_B, seed))
    return _absorb(_absorb(key, np.full_like(rows_B, epoch)), rows_B)


def draw_rows(
    rows_B: NDArray[np.int64], set_B: NDArray[np.int64] | int, repeat_B: NDArray[np.int64] | int
) -> NDArray[np.int64]:
    """The number that stands for each tile in its draws, int64 (B,). In an epoch it differs for every set and repeat.

    For set 0 and repeat 0 it is the row itself.

    Args:
        rows_B: source rows.
        set_B: the number of the tile's shard set in the run, from 0.
        repeat_B: how often the epoch has taken the tile before.
    """
    return rows_B | (np.asarray(set_B, np.int64) << _ROW_BITS) | (np.asarray(repeat_B, np.int64) << _REPEAT_SHIFT)


def bits(keys_B: Tensor, stream: Stream, count: int) -> Tensor:
    """`count` words of 63 random bits for each tile, int64 (B, R), never negative."""
    import torch

    counter_R = torch.arange(1, count + 1, device=keys_B.device, dtype=torch.int64) * _GOLDEN
    key_B = mix(keys_B ^ mix(torch.full_like(keys_B, int(stream)) + _GOLDEN))
    return (mix(key_B[:, None] + counter_R) >> 1) & ((1 << 63) - 1)


def uniform(keys_B: Tensor, stream: Stream, count: int) -> Tensor:
    """`count` numbers for each tile from the open interval (0, 1), float32 (B, R)."""
    # These are 23 bits plus one half. So a number is never 0, whose logarithm is not finite, nor rounded up to 1.
    import torch

    return ((bits(keys_B, stream, count) >> 40).to(torch.float32) + 0.5) * 2.0**-23


def below(keys_B: Tensor, stream: Stream, count: int, bound: int) -> Tensor:
    """`count` integers for each tile from 0 .. bound-1, int64 (B, R)."""
    return bits(keys_B, stream, count) % bound
