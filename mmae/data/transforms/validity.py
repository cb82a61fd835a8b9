"""Which pixels are data: decided on stored values, before any arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def widen(stored: Tensor, unsigned: bool) -> Tensor:
    """Stored integers as int32; floats as they are.

    Args:
        unsigned: the stored dtype was uint16, handed over as the int16 of the same bits.
    """
    if stored.is_floating_point():
        return stored
    wide = stored.to(torch.int32)
    return wide & 0xFFFF if unsigned else wide


def is_data(stored: Tensor, no_data: Sequence[float]) -> Tensor:
    """True where a widened stored value is data: finite, and none of `no_data`. Bool, same shape."""
    valid = torch.isfinite(stored)
    for value in no_data:
        valid = valid & (stored != value)
    return valid


def token_valid(valid: Tensor, patch: int) -> Tensor:
    """True where any value of a token's patch is data: (B, C, h, w) or (B, h, w) -> (B, n), row-major."""
    valid_Bhw = valid.any(1) if valid.dim() == 4 else valid
    size, height, width = valid_Bhw.shape
    blocks = valid_Bhw.view(size, height // patch, patch, width // patch, patch)
    return blocks.any(4).any(2).flatten(1)
