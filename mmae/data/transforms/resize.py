"""Whole tiles brought to the model's input size, as the published recipe does it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import avg_pool2d, interpolate

if TYPE_CHECKING:
    from torch import Tensor

    from mmae.data.transforms.crop import Size


def resize_bilinear(values_BCHW: Tensor, valid_BCHW: Tensor, size: Size) -> tuple[Tensor, Tensor]:
    """Values and validity at another size, float32 and bool (B, C, h, w); corners not aligned, no antialiasing.

    A value is data only where every pixel that it is mixed from is; it is 0 elsewhere.
    Values without data must come in as 0: a weight of 0 does not remove what is not finite.
    """
    valid_BChw = _bilinear((~valid_BCHW).to(torch.float32), size) == 0
    return torch.where(valid_BChw, _bilinear(values_BCHW, size), 0), valid_BChw


def _bilinear(values_BCHW: Tensor, size: Size) -> Tensor:
    return interpolate(values_BCHW, size, mode="bilinear", align_corners=False, antialias=False)


def resize_nearest(index_BHW: Tensor, size: Size) -> Tensor:
    """The pixel that each new pixel's centre falls into, (B, h, w): for labels, or for an index of pixels."""
    for dim, length in zip((1, 2), size, strict=True):
        old = index_BHW.shape[dim]
        centre = (2 * torch.arange(length, device=index_BHW.device) + 1) * old // (2 * length)
        index_BHW = index_BHW.index_select(dim, centre)
    return index_BHW


def block_mean(values_BCHW: Tensor, valid_BCHW: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Values and validity at `stride` times fewer pixels a side: the mean of each block's values with data."""
    share_BChw = avg_pool2d(valid_BCHW.to(torch.float32), stride)
    sum_BChw = avg_pool2d(torch.where(valid_BCHW, values_BCHW, 0), stride)
    return sum_BChw / torch.where(share_BChw > 0, share_BChw, 1), share_BChw > 0
