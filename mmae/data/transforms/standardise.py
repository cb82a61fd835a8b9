"""Elevation standardised tile by tile, over the values between its 10th and 90th percentile.

MultiMAE's standardisation of depth (Bachmann et al., ECCV 2022): with the values sorted and cut at int(0.1 n) and
int(0.9 n), (x - mean) / sqrt(variance + 1e-6), variance unbiased.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

if TYPE_CHECKING:
    from torch import Tensor

EPSILON: Final = 1e-6


def standardise(values_BCHW: Tensor, valid_BCHW: Tensor) -> Tensor:
    """Each tile by the inner ones of its own valid values, float32 (B, C, H, W); 0 where there is no data.

    A tile with fewer than two inner values becomes 0.
    """
    mean_B1, deviation_B1, known_B1 = _inner_statistics(values_BCHW, valid_BCHW)
    standard_Bn = (values_BCHW.flatten(1).to(torch.float64) - mean_B1) / deviation_B1
    known_Bn = valid_BCHW.flatten(1) & known_B1
    return torch.where(known_Bn, standard_Bn, 0).to(torch.float32).view(values_BCHW.shape)


def tile_deviations(values_BCHW: Tensor, valid_BCHW: Tensor) -> Tensor:
    """What `standardise` divides each tile by, float64 (B, 1); 0 where it makes the tile 0."""
    _, deviation_B1, known_B1 = _inner_statistics(values_BCHW, valid_BCHW)
    return torch.where(known_B1, deviation_B1, 0)


def _inner_statistics(values_BCHW: Tensor, valid_BCHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, deviation, and whether there are two values to take them of, (B, 1) each."""
    # Sums in double precision: a tile's result must not show what it was batched with, and a flat tile
    # is divided by 1e-3, which would magnify the rounding of its mean.
    values_Bn = values_BCHW.flatten(1).to(torch.float64)
    valid_Bn = valid_BCHW.flatten(1)
    # Values without data are sorted behind all others.
    sorted_Bn = torch.where(valid_Bn, values_Bn, torch.inf).sort(dim=1).values
    inner_Bn, count_B1 = _inner(valid_Bn)
    mean_B1 = torch.where(inner_Bn, sorted_Bn, 0).sum(1, keepdim=True) / count_B1.clamp(min=1)
    squares_B1 = torch.where(inner_Bn, sorted_Bn - mean_B1, 0).square().sum(1, keepdim=True)
    variance_B1 = squares_B1 / (count_B1 - 1).clamp(min=1)
    return mean_B1, (variance_B1 + EPSILON).sqrt(), count_B1 >= 2


def _inner(valid_Bn: Tensor) -> tuple[Tensor, Tensor]:
    """Which ranks among a tile's sorted values lie between the percentiles, bool (B, n), and how many, (B, 1)."""
    number_B1 = valid_Bn.sum(1, keepdim=True)
    # n // 10 is int(0.1 n) for every n: the doubles 0.1 and 0.9 lie above the decimals, so no product falls short.
    low_B1, high_B1 = number_B1 // 10, number_B1 * 9 // 10
    rank_n = torch.arange(valid_Bn.shape[1], device=valid_Bn.device)
    return (rank_n >= low_B1) & (rank_n < high_B1), high_B1 - low_B1


def tile_scale(values_BCHW: Tensor, valid_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    """The mean that `standardise` subtracts from each tile and the deviation that it divides by, float64 (B,) each.

    With them a prediction is brought back to the units of the values. Both are 0 where it makes the tile 0.
    """
    mean_B1, deviation_B1, known_B1 = _inner_statistics(values_BCHW, valid_BCHW)
    return torch.where(known_B1, mean_B1, 0)[:, 0], torch.where(known_B1, deviation_B1, 0)[:, 0]
