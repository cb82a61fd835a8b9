"""Features that nobody trained, to compare an encoder with: statistics of an image, and random convolutions (RCF).

Random convolutional features: Rolf et al., "A generalizable and accessible approach to machine learning with global
satellite imagery" (Nature Communications, 2021), with Gaussian filters. Values are normalised ones; pixels without
data are left out.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, pad

RCF_FEATURES: Final = 512
_KERNEL: Final = 3


def image_statistics(values_BCHW: Tensor, valid_BCHW: Tensor) -> Tensor:
    """Mean, deviation, minimum and maximum of each channel's valid pixels, float32 (B, 4C); 0 where there are none."""
    values, valid = values_BCHW.flatten(2).double(), valid_BCHW.flatten(2)
    count_BC = valid.sum(2).clamp(min=1)
    mean_BC = torch.where(valid, values, 0).sum(2) / count_BC
    square_BC = torch.where(valid, values - mean_BC[..., None], 0).square().sum(2) / count_BC
    low_BC, high_BC = values.masked_fill(~valid, torch.inf).amin(2), values.masked_fill(~valid, -torch.inf).amax(2)
    parts = [mean_BC, square_BC.sqrt(), *(torch.where(valid.any(2), each, 0) for each in (low_BC, high_BC))]
    return torch.cat(parts, dim=1).float()


def patch_statistics(values_BCHW: Tensor, valid_BCHW: Tensor, patch: int) -> Tensor:
    """Of each patch the statistics of `image_statistics`, float32 (B, h, w, 4C)."""
    batch, _, height, width = values_BCHW.shape
    grid = (batch, height // patch, width // patch)
    parts = [_patches(each, patch) for each in (values_BCHW, valid_BCHW)]
    return image_statistics(parts[0], parts[1]).view(*grid, -1)


def _patches(array_BCHW: Tensor, patch: int) -> Tensor:
    """(B * h * w, C, patch, patch), row by row."""
    batch, channels, height, width = array_BCHW.shape
    cut = array_BCHW.view(batch, channels, height // patch, patch, width // patch, patch)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(-1, channels, patch, patch)


class RandomConvolutions:
    """Filters drawn once with a seed: each gives two features, the mean of its positive and of its negative part."""

    def __init__(self, channels: int, features: int = RCF_FEATURES, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        shape = (features // 2, channels, _KERNEL, _KERNEL)
        self._filters = torch.randn(shape, generator=generator) / (channels * _KERNEL**2) ** 0.5
        self._bias = torch.randn(features // 2, generator=generator)

    def __call__(self, values_BCHW: Tensor) -> Tensor:
        """Features of whole images, float32 (B, features). Pixels without data are 0, the mean of their channel."""
        parts = [self._responses(image).mean((2, 3)) for image in torch.split(values_BCHW, 1)]
        return torch.cat(parts)

    def patches(self, values_BCHW: Tensor, patch: int) -> Tensor:
        """Features of each patch, float32 (B, h, w, features)."""
        parts = [avg_pool2d(self._responses(image), patch).movedim(1, -1) for image in torch.split(values_BCHW, 1)]
        return torch.cat(parts)

    def _responses(self, values_BCHW: Tensor) -> Tensor:
        device, side = values_BCHW.device, _KERNEL // 2
        padded = pad(values_BCHW.float(), (side,) * 4, mode="replicate")
        response = conv2d(padded, self._filters.to(device), self._bias.to(device))
        return torch.cat([response.relu(), (-response).relu()], dim=1)
