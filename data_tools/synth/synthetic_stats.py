"""Running band statistics over valid pixels, in the layout of MMEarth's `band_stats`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmae.modalities import MODALITIES, S2_LEVELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from data_tools.synth.scene import Arrays

CONTINUOUS: Final = ("sentinel2", "sentinel1", "aster", "canopy_height_eth", "era5", "lat", "lon", "month")
_NO_DATA: Final = {row.dataset: row.no_data for row in MODALITIES.values()}


class _Bands:
    """Mean, deviation, minimum and maximum of each band, merged tile by tile (Chan, Golub and LeVeque, 1983)."""

    def __init__(self, bands: int) -> None:
        self.count = np.zeros(bands)
        self.mean = np.zeros(bands)
        self.squares = np.zeros(bands)
        self.min = np.full(bands, np.inf)
        self.max = np.full(bands, -np.inf)

    def add(self, values_Cn: NDArray[np.float64], valid_Cn: NDArray[np.bool_]) -> None:
        count = valid_Cn.sum(1)
        total = self.count + count
        mean = np.where(valid_Cn, values_Cn, 0).sum(1) / np.maximum(count, 1)
        squares = np.where(valid_Cn, values_Cn - mean[:, None], 0) ** 2
        delta = mean - self.mean
        self.squares += squares.sum(1) + delta**2 * self.count * count / np.maximum(total, 1)
        self.mean += delta * count / np.maximum(total, 1)
        self.min = np.minimum(self.min, np.where(valid_Cn, values_Cn, np.inf).min(1))
        self.max = np.maximum(self.max, np.where(valid_Cn, values_Cn, -np.inf).max(1))
        self.count = total

    def table(self) -> dict[str, list[float]]:
        """The statistics in the published layout. A band without data has zeros, as in MMEarth B10 of L2A has."""
        seen = self.count > 0
        columns = {
            "mean": self.mean,
            "std": np.sqrt(self.squares / np.maximum(self.count, 1)),
            "min": self.min,
            "max": self.max,
        }
        return {name: np.where(seen, column, 0).tolist() for name, column in columns.items()}


class BandStats:
    """Statistics of every continuous dataset. Those of Sentinel-2 are kept separately for each level."""

    def __init__(self) -> None:
        self._entries: dict[str, _Bands] = {}

    def add(self, arrays: Arrays, level: int) -> None:
        for name in CONTINUOUS:
            entry = f"{name}_{S2_LEVELS[level]}" if name == "sentinel2" else name
            stored_Cn = arrays[name].reshape(len(arrays[name]), -1)
            valid_Cn = np.isfinite(stored_Cn) & ~np.isin(stored_Cn, _NO_DATA.get(name, ()))
            values_Cn = np.where(valid_Cn, stored_Cn, 0).astype(np.float64)
            self._entries.setdefault(entry, _Bands(len(stored_Cn))).add(values_Cn, valid_Cn)

    def tables(self) -> dict[str, Any]:
        return {name: bands.table() for name, bands in sorted(self._entries.items())}
