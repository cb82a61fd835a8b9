"""Fixed two-dimensional sine-cosine positions, computed once for a grid.

Chen, Xie and He, "An Empirical Study of Training Self-Supervised Vision Transformers" (MoCo-v3, ICCV 2021), section 5,
on the grid of a 224 px image and resampled to the grid at hand, as Bachmann et al., "MultiMAE" (ECCV 2022), do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

Resampling = Literal["bicubic", "bilinear"]

BASE_IMAGE: Final = 224
"""Image side, in pixels, of the grid that positions are resampled from."""

_LONGEST_WAVE: Final = 10000.0


def sine_cosine(width: int, side: int) -> Tensor:
    """Positions of a square grid, float32 (width, side, side).

    Channels are [sin row, cos row, sin column, cos column], a quarter of `width` each; the angle of channel i is
    the integer index times 10000^(-i / (width / 4)).
    """
    # Integers on the CPU first: inside a DeepSpeed `zero.Init` or a meta-device context, torch's floating-point
    # constructors would answer in half precision or on another device.
    order = torch.arange(width // 4, device="cpu").to(torch.float32)
    index = torch.arange(side, device="cpu").to(torch.float32)
    angle = torch.outer(1.0 / _LONGEST_WAVE ** (order / (width // 4)), index)
    row = angle[:, :, None].expand(-1, -1, side)
    column = angle[:, None, :].expand(-1, side, -1)
    return torch.cat([row.sin(), row.cos(), column.sin(), column.cos()])


def base_positions(width: int, patch_size: int) -> Tensor:
    """Positions on the grid of a 224 px image, float32 (width, 224 // patch_size, 224 // patch_size)."""
    return sine_cosine(width, max(1, BASE_IMAGE // patch_size))


def resample(base: Tensor, grid_hw: tuple[int, int], mode: Resampling) -> Tensor:
    """Positions (width, side, side) brought to a grid and laid out row by row: float32 (n, width)."""
    grid = functional.interpolate(base[None], size=grid_hw, mode=mode, align_corners=False, antialias=False)
    return grid[0].flatten(1).t().contiguous()


class PositionEmbedding(nn.Module):
    """The positions of one grid: neither learned nor saved, and float32 whatever the weights are."""

    table_nd: Tensor

    def __init__(self, width: int, patch_size: int, grid_hw: tuple[int, int], mode: Resampling) -> None:
        super().__init__()
        table_nd = resample(base_positions(width, patch_size), grid_hw, mode)
        self.register_buffer("table_nd", table_nd, persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        exact_nd = self.table_nd
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        # A cast to half precision and back would lose bits that no state dict restores.
        self.table_nd = exact_nd.to(self.table_nd.device)
        return self

    def forward(self, dtype: torch.dtype) -> Tensor:
        """(n, width) in `dtype`, row-major."""
        return self.table_nd.to(dtype)
