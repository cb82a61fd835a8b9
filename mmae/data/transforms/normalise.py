"""Global normalisation: each tile by the statistics of its own Sentinel-2 level."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mmae.data.transforms.stats_entry import BandNumbers, band_numbers
from mmae.errors import InputError, did_you_mean
from mmae.modalities import S2_LEVELS, Modality, stats_entry

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Normalisation:
    """A modality's statistics, one line a Sentinel-2 level (equal lines where the level does not matter).

    Attributes:
        mean_SC: float32 (levels, C), in the stored units.
        scale_SC: float32 (levels, C), 1 / standard deviation; 0 for a band whose deviation is 0 or unknown.
        known_SC: bool (levels, C), whether there are statistics.
        complete: whether every level and band has statistics.
    """

    mean_SC: Tensor
    scale_SC: Tensor
    known_SC: Tensor
    complete: bool

    def __call__(self, stored_BCHW: Tensor, level_B: Tensor) -> Tensor:
        """(stored - mean) / std as float32 (B, C, H, W); 0 where std is 0. The caller masks pixels without data."""
        level_B = level_B.to(torch.int64)
        mean_BC11 = self.mean_SC[level_B][:, :, None, None]
        scale_BC11 = self.scale_SC[level_B][:, :, None, None]
        return (stored_BCHW.to(torch.float32) - mean_BC11) * scale_BC11

    def units(self, level_B: Tensor) -> Tensor:
        """What a difference of 1 is in stored units, float32 (B, C); 0 where the standard deviation is 0 or unknown."""
        scale_BC = self.scale_SC[level_B.to(torch.int64)]
        return torch.where(scale_BC > 0, 1 / scale_BC, 0)

    def usable(self, valid_BCHW: Tensor, level_B: Tensor) -> Tensor:
        """The valid pixels that can be normalised, bool (B, C, H, W): those of bands with statistics."""
        return valid_BCHW if self.complete else valid_BCHW & self.known_SC[level_B.to(torch.int64)][:, :, None, None]


def normalisation(modality: Modality, band_stats: Mapping[str, Any], device: torch.device) -> Normalisation:
    """The statistics of `modality` from MMEarth's `band_stats` ({entry: {mean, std: one number a band}}).

    Raises:
        InputError: no level has an entry, or one is too short or no list of numbers.
    """
    lines = [_line(modality, stats_entry(modality, level), band_stats) for level in S2_LEVELS]
    if all(line is None for line in lines):
        entry = stats_entry(modality, S2_LEVELS[0])
        known = did_you_mean(entry, band_stats)
        raise InputError(f"band statistics: no entry {entry!r}, which modality {modality.name!r} needs{known}")
    unknown = BandNumbers(*np.full((2, len(modality.bands)), np.nan))
    mean_SC, std_SC = (np.stack([getattr(line or unknown, field) for line in lines]) for field in ("mean_C", "std_C"))
    known_SC = ~np.isnan(mean_SC)
    # A deviation that is 0 (a band that never changes) or unknown is never a divisor.
    divides_SC = known_SC & (std_SC > 0)
    mean_SC = np.where(divides_SC, mean_SC, 0)
    scale_SC = np.divide(1.0, std_SC, out=np.zeros_like(std_SC), where=divides_SC)
    return Normalisation(
        torch.tensor(mean_SC, dtype=torch.float32).to(device),
        torch.tensor(scale_SC, dtype=torch.float32).to(device),
        torch.tensor(known_SC).to(device),
        bool(known_SC.all()),
    )


def _line(modality: Modality, entry: str, band_stats: Mapping[str, Any]) -> BandNumbers | None:
    numbers = band_numbers(band_stats, entry)
    if numbers is None:
        return None
    if len(numbers.mean_C) <= max(modality.bands):
        raise InputError(
            f"band statistics: {entry}.mean has {len(numbers.mean_C)} numbers, modality {modality.name!r} needs "
            f"{max(modality.bands) + 1}: compute them for every band of the dataset"
        )
    bands = list(modality.bands)
    return BandNumbers(numbers.mean_C[bands], numbers.std_C[bands])
