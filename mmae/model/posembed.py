"""Where a token stands: fixed two-dimensional sine-cosine positions, computed once for a grid, or learned ones.

Chen, Xie and He, "An Empirical Study of Training Self-Supervised Vision Transformers" (MoCo-v3, ICCV 2021), section 5,
on the grid of a 224 px image and resampled to the grid at hand, as Bachmann et al., "MultiMAE" (ECCV 2022), do.
Learned positions start from them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmae.config.schema import ModelConfig

Resampling = Literal["bicubic", "bilinear"]

BASE_IMAGE: Final = 224
"""Image side, in pixels, of the grid that positions are resampled from."""

_LONGEST_WAVE: Final = 10000.0
_KEPT_GRIDS: Final = 16


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
    """Positions (..., width, rows, columns) brought to a grid and laid out row by row: (..., n, width)."""
    channels = base.flatten(0, -3)[None]
    grid = functional.interpolate(channels, size=grid_hw, mode=mode, align_corners=False, antialias=False)
    return grid.reshape(*base.shape[:-2], -1).transpose(-1, -2).contiguous()


def position_embedding(
    config: ModelConfig, width: int, mode: Resampling, stack: tuple[int, ...] = (), base_patch: int | None = None
) -> nn.Module:
    """The positions of the configuration's grid, fixed or learned as it says.

    Args:
        stack: as in `LearnedPositions`.
        base_patch: the patch size whose grid of a 224 px image they are resampled from; None: the model's own. A model
            whose kernels were resized keeps the numbers that it knows by keeping this one.
    """
    base_patch = base_patch or config.patch_size
    if config.positions == "learned":
        return LearnedPositions(width, base_patch, config.grid_hw, mode, stack)
    return PositionEmbedding(width, base_patch, config.grid_hw, mode)


class PositionEmbedding(nn.Module):
    """The positions of one grid: neither learned nor saved, and float32 whatever the weights are."""

    table_nd: Tensor

    def __init__(self, width: int, patch_size: int, grid_hw: tuple[int, int], mode: Resampling) -> None:
        super().__init__()
        self.width, self.patch_size, self.grid_hw, self.mode = width, patch_size, grid_hw, mode
        self.register_buffer("table_nd", self._resampled(grid_hw), persistent=False)
        self._others: dict[tuple[int, int], Tensor] = {}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        exact_nd = self.table_nd
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        # A cast to half precision and back would lose bits that no state dict restores.
        self.table_nd = exact_nd.to(self.table_nd.device)
        self._others.clear()
        return self

    def _resampled(self, grid_hw: tuple[int, int]) -> Tensor:
        return resample(base_positions(self.width, self.patch_size), grid_hw, self.mode)

    def forward(self, dtype: torch.dtype, grid_hw: tuple[int, int] | None = None) -> Tensor:
        """(n, width) in `dtype`, row-major; of another grid than the module's own if `grid_hw` says so."""
        if grid_hw is None or grid_hw == self.grid_hw:
            return self.table_nd.to(dtype)
        if grid_hw not in self._others:
            if len(self._others) == _KEPT_GRIDS:
                self._others.clear()
            self._others[grid_hw] = self._resampled(grid_hw).to(self.table_nd.device)
        return self._others[grid_hw].to(dtype)


class LearnedPositions(nn.Module):
    """The positions of one grid, trained from the fixed ones, in the dtype of all weights.

    Args:
        stack: leading axes of a stack of layers, each with positions of its own.
    """

    def __init__(
        self, width: int, patch_size: int, grid_hw: tuple[int, int], mode: Resampling, stack: tuple[int, ...] = ()
    ) -> None:
        super().__init__()
        self.patch_size, self.grid_hw, self.mode = patch_size, grid_hw, mode
        self.table = nn.Parameter(torch.zeros(*stack, grid_hw[0] * grid_hw[1], width))

    def start(self) -> Tensor:
        """What training starts from, float32 (n, width)."""
        return resample(base_positions(self.table.shape[-1], self.patch_size), self.grid_hw, self.mode)

    def forward(self, dtype: torch.dtype, grid_hw: tuple[int, int] | None = None) -> Tensor:
        """(..., n, width) in `dtype`, row-major; resampled to another grid than the module's own if `grid_hw` says so.

        A copy: where parameters are sharded, the parameter itself is emptied when its module's forward ends.
        """
        if grid_hw is None or grid_hw == self.grid_hw:
            return self.table.clone().to(dtype)
        places = self.table.float().transpose(-1, -2)
        return resample(places.reshape(*places.shape[:-1], *self.grid_hw), grid_hw, self.mode).to(dtype)


def first_positions(model: nn.Module) -> dict[str, Tensor]:
    """What a model's learned positions start from, float32, by the parameters' names; empty where they are fixed."""
    learned = {name: module for name, module in model.named_modules() if isinstance(module, LearnedPositions)}
    return {f"{name}.table": module.start().expand(module.table.shape) for name, module in learned.items()}
