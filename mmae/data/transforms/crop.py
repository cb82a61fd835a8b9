"""The position of each pixel of a sample in its tile: crop, flips and quarter turns as one index.

The three become one gather on the stored integers, so that no pixel is copied twice and no value is changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

from mmae import draws
from mmae.draws import Stream

if TYPE_CHECKING:
    from torch import Tensor

Flip = Literal["none", "horizontal", "dihedral"]
Size = tuple[int, int]


def centre_corners(key_B: Tensor, tile_hw: Size, window_hw: Size) -> tuple[Tensor, Tensor]:
    """Row and column of the upper left pixel of the window in the middle of each tile, int64 (B,) each."""
    top, left = ((tile - window) // 2 for tile, window in zip(tile_hw, window_hw, strict=True))
    return torch.full_like(key_B, top), torch.full_like(key_B, left)


def random_corners(key_B: Tensor, tile_hw: Size, window_hw: Size) -> tuple[Tensor, Tensor]:
    """Row and column of the upper left pixel of a random window, uniform over all places, int64 (B,) each."""
    words_BR = draws.bits(key_B, Stream.CROP, 2)
    return words_BR[:, 0] % (tile_hw[0] - window_hw[0] + 1), words_BR[:, 1] % (tile_hw[1] - window_hw[1] + 1)


def random_flips(key_B: Tensor, flip: Flip, quarter_turns: bool) -> Tensor:
    """One of the symmetries that `flip` allows a tile, uniform over them, int64 (B,).

    Bit 0 reverses columns, bit 1 reverses rows, bit 2 then transposes: the eight values are the eight
    symmetries of a square, the first four those of a rectangle.
    """
    symmetries = {"none": 1, "horizontal": 2, "dihedral": 8 if quarter_turns else 4}[flip]
    return draws.below(key_B, Stream.FLIP, 1, symmetries)[:, 0]


def source_index(top_B: Tensor, left_B: Tensor, symmetry_B: Tensor, window_hw: Size, tile_width: int) -> Tensor:
    """Flat index into a tile's pixels for every pixel of its sample, int64 (B, h, w).

    Args:
        top_B, left_B: the window's upper left pixel, int64 (B,) each.
        symmetry_B: as `random_flips` gives it; transposing ones only where the window is square.
    """
    height, width = window_hw
    row_h1 = torch.arange(height, device=symmetry_B.device)[:, None]
    column_1w = torch.arange(width, device=symmetry_B.device)[None, :]
    symmetry_B11 = symmetry_B[:, None, None]
    transposed_B11 = symmetry_B11 >= 4
    row_Bhw = torch.where(transposed_B11, column_1w, row_h1)
    column_Bhw = torch.where(transposed_B11, row_h1, column_1w)
    row_Bhw = torch.where((symmetry_B11 & 2) > 0, height - 1 - row_Bhw, row_Bhw)
    column_Bhw = torch.where((symmetry_B11 & 1) > 0, width - 1 - column_Bhw, column_Bhw)
    return (top_B[:, None, None] + row_Bhw) * tile_width + left_B[:, None, None] + column_Bhw


def gather_pixels(stored_BCHW: Tensor, bands_C: Tensor, index_Bhw: Tensor) -> Tensor:
    """The bands `bands_C` (int64) of every tile at the pixels of `index_Bhw`, (B, C, h, w) in the stored dtype.

    uint16 comes back as int16 with the same bits (`validity.widen` undoes it): torch gathers no uint16.
    """
    if stored_BCHW.dtype == torch.uint16:
        stored_BCHW = stored_BCHW.view(torch.int16)
    height, width = stored_BCHW.shape[-2:]
    index_BChw = index_Bhw[:, None] + (bands_C * (height * width))[:, None, None]
    return stored_BCHW.flatten(1).gather(1, index_BChw.flatten(1)).view(index_BChw.shape)
