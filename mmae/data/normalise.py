"""Global normalisation: each tile by the statistics of its own Sentinel-2 level."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from mmae.errors import InputError, did_you_mean
from mmae.modalities import S2_LEVELS, Modality

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Normalisation:
    """A modality's statistics, one line a Sentinel-2 level (equal lines where the level does not matter).

    Attributes:
        mean_SC: float32 (levels, C), in the stored units.
        scale_SC: float32 (levels, C), 1 / standard deviation; 0 for a band whose deviation is 0 or unknown.
    """

    mean_SC: Tensor
    scale_SC: Tensor

    def __call__(self, stored_BCHW: Tensor, level_B: Tensor) -> Tensor:
        """(stored - mean) / std as float32 (B, C, H, W); 0 where std is 0. What is no data stays for the caller."""
        level_B = level_B.to(torch.int64)
        mean_BC11 = self.mean_SC[level_B][:, :, None, None]
        scale_BC11 = self.scale_SC[level_B][:, :, None, None]
        return (stored_BCHW.to(torch.float32) - mean_BC11) * scale_BC11


def normalisation(modality: Modality, band_stats: Mapping[str, Any], device: torch.device) -> Normalisation:
    """The statistics of `modality` from MMEarth's `band_stats` ({entry: {mean, std: one number a band}}).

    Raises:
        InputError: an entry is missing or too short.
    """
    lines = [_line(modality, level, band_stats) for level in S2_LEVELS]
    mean_SC, scale_SC = (torch.tensor(part, dtype=torch.float32) for part in zip(*lines, strict=True))
    return Normalisation(mean_SC.to(device), scale_SC.to(device))


def _line(modality: Modality, level: str, band_stats: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    entry = f"{modality.dataset}_{level}" if modality.by_level else modality.dataset
    if entry not in band_stats:
        known = did_you_mean(entry, band_stats)
        raise InputError(f"band statistics: no entry {entry!r}, which modality {modality.name!r} needs{known}")
    mean, std = (_bands(modality, entry, key, band_stats[entry].get(key, ())) for key in ("mean", "std"))
    # A deviation of 0 (B10 of L2A) or of nothing measured (NaN) never divides.
    usable = [math.isfinite(m) and math.isfinite(s) and s > 0 for m, s in zip(mean, std, strict=True)]
    return (
        [m if use else 0.0 for m, use in zip(mean, usable, strict=True)],
        [1.0 / s if use else 0.0 for s, use in zip(std, usable, strict=True)],
    )


def _bands(modality: Modality, entry: str, key: str, numbers: Sequence[float | None]) -> list[float]:
    if len(numbers) <= max(modality.bands):
        raise InputError(
            f"band statistics: {entry}.{key} has {len(numbers)} numbers, modality {modality.name!r} needs "
            f"{max(modality.bands) + 1}: compute them for every band of the dataset"
        )
    picked = (numbers[band] for band in modality.bands)
    return [math.nan if number is None else float(number) for number in picked]
