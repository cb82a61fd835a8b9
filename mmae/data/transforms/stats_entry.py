"""One entry of the band statistics as numbers; a band that was never measured is NaN.

A band with deviation 0 never changes: it has data, and is not divided. If its mean is also a no-data value, it was
never measured. MMEarth writes B10 of L2A so, and older shard sets write levels without tiles so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmae.errors import InputError
from mmae.modalities import MODALITIES, Modality

if TYPE_CHECKING:
    from numpy.typing import NDArray

_KINDS: Final = ("mean", "std")


@dataclass(frozen=True, eq=False)
class BandNumbers:
    """Mean and standard deviation of each band of an entry, float64 (C,), in the stored units; NaN where unknown."""

    mean_C: NDArray[np.float64]
    std_C: NDArray[np.float64]

    @property
    def known(self) -> NDArray[np.bool_]:
        """The bands with data, bool (C,)."""
        known_C: NDArray[np.bool_] = ~np.isnan(self.mean_C)
        return known_C


def band_numbers(band_stats: Mapping[str, Any], entry: str) -> BandNumbers | None:
    """An entry's numbers; None where there is no entry, or one without any number.

    Args:
        entry: a dataset, or `sentinel2_l1c` and `sentinel2_l2a`.

    Raises:
        InputError: the entry is not a list of numbers a statistic, or they are not equally many.
    """
    if band_stats.get(entry) is None:
        return None
    mean_C, std_C = (_numbers(band_stats[entry], entry, kind) for kind in _KINDS)
    if len(mean_C) != len(std_C):
        raise InputError(f"band statistics: {entry} has {len(mean_C)} means and {len(std_C)} deviations: {_REMEDY}")
    unseen_C = ~np.isfinite(mean_C) | ~np.isfinite(std_C) | ((std_C == 0) & np.isin(mean_C, _of_nothing(entry)))
    mean_C[unseen_C], std_C[unseen_C] = np.nan, np.nan
    return None if unseen_C.all() else BandNumbers(mean_C, std_C)


def no_data(entry: str) -> tuple[float, ...]:
    """Stored values that mean no data, in the dataset of an entry."""
    return next((row.no_data for row in _rows(entry)), ())


def _of_nothing(entry: str) -> tuple[float, ...]:
    """Means that say, where the deviation is 0, that no data was seen; no radar band is 0 dB everywhere."""
    return (0.0, *no_data(entry)) if any(row.units == "dB" for row in _rows(entry)) else no_data(entry)


def _rows(entry: str) -> Iterator[Modality]:
    return (row for row in MODALITIES.values() if row.dataset == entry or (row.by_level and _of(row.dataset, entry)))


def _of(dataset: str, entry: str) -> bool:
    return entry.rpartition("_")[0] == dataset


_REMEDY: Final = "compute them again with mmae stats, or take MMEarth's"


def _numbers(table: Any, entry: str, kind: str) -> NDArray[np.float64]:
    listed = table.get(kind) if isinstance(table, Mapping) else None
    if not isinstance(listed, list) or not all(map(_is_number, listed)):
        raise InputError(f"band statistics: {entry}.{kind} is not a list of numbers, one a band: {_REMEDY}")
    numbers = np.array([np.nan if value is None else value for value in listed], np.float64)
    if kind == "std" and (numbers < 0).any():
        raise InputError(f"band statistics: {entry}.std holds a negative number: {_REMEDY}")
    return numbers


def _is_number(value: object) -> bool:
    # Integers of JSON may be beyond every float.
    return value is None or isinstance(value, float) or (type(value) is int and abs(value) < 2**1000)
