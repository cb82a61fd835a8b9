"""Band statistics over valid pixels, computed tile by tile and merged, so that each pixel is read once.

MMEarth calls them `band_stats`: mean, population standard deviation (divided by n, not n - 1), smallest and largest
valid value of every band, with separate entries for the levels of Sentinel-2. Shape letters: C bands, n pixels of a
tile, m valid ones of these.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from data_tools.stats.sums import FloatSums, IntegerSums
from mmae.modalities import ABSENT_BANDS, BY_LEVEL, MODALITIES, S2_LEVELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

CONTINUOUS: Final = tuple(dict.fromkeys(row.dataset for row in MODALITIES.values() if not row.categorical))
"""The datasets that have statistics. All bands count, also those that no modality uses."""

_NO_DATA: Final = {
    name: tuple({value for row in MODALITIES.values() if row.dataset == name for value in row.no_data})
    for name in CONTINUOUS
}
_EXACT_BYTES: Final = 2


class Moments:
    """Running statistics of the continuous datasets.

    Integers of up to 16 bits are summed exactly: neither the order of tiles nor that of merges changes a digit.
    """

    def __init__(self) -> None:
        self._sums: dict[str, IntegerSums | FloatSums] = {}

    def update(self, dataset: str, stored: NDArray[Any], level: int = 0) -> None:
        """Add one tile of a dataset. Datasets without statistics, and tiles without bands, are ignored.

        Args:
            stored: (bands, ...), in the stored dtype and units, with no-data values.
            level: index into `modalities.S2_LEVELS`; it matters for Sentinel-2 only.

        Raises:
            ValueError: the number of bands or the kind of numbers differs from earlier tiles.
        """
        if dataset not in _NO_DATA or stored.size == 0 or stored.ndim == 0:
            return
        exact = stored.dtype.kind in "iu" and stored.dtype.itemsize <= _EXACT_BYTES
        self._add(_entry(dataset, level), (IntegerSums if exact else FloatSums)(len(stored)))
        sums = self._sums[_entry(dataset, level)]
        for bands, values_Cm in _valid(stored.reshape(len(stored), -1), _NO_DATA[dataset]):
            sums.add(bands, values_Cm)

    def merge(self, other: Moments) -> None:
        """Add the statistics of another object (Chan, Golub and LeVeque, 1983); `other` does not change."""
        for entry, sums in other._sums.items():
            self._add(entry, type(sums)(len(sums.count)))
            self._sums[entry].merge(sums)  # type: ignore[arg-type]  # _add has compared the kinds

    def _add(self, entry: str, fresh: IntegerSums | FloatSums) -> None:
        had = self._sums.setdefault(entry, fresh)
        if type(had) is not type(fresh) or len(had.count) != len(fresh.count):
            raise ValueError(f"{entry}: {len(fresh.count)} bands, or another kind of numbers than before")

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All statistics as plain arrays (bands,) for an npz file: `<entry>.<field>`, int64 or float64."""
        return {
            f"{entry}.{field}": getattr(sums, field)
            for entry, sums in sorted(self._sums.items())
            for field in sums.FIELDS
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Moments:
        """The object from its `arrays`.

        Raises:
            ValueError: a field is missing, unknown, or of another shape or dtype.
        """
        made = cls()
        for entry in sorted({name.rpartition(".")[0] for name in arrays}):
            fields = {
                name.rpartition(".")[2]: values for name, values in arrays.items() if name.startswith(f"{entry}.")
            }
            kind = IntegerSums if "total" in fields else FloatSums
            made._sums[entry] = kind.from_fields(fields)
        return made

    def counts(self) -> dict[str, list[int]]:
        """Entry -> number of valid values of each band."""
        return {entry: sums.count.tolist() for entry, sums in sorted(self._sums.items())}

    def band_stats(self) -> dict[str, dict[str, list[float | None]]]:
        """The statistics in MMEarth's layout: {entry: {mean, std, min, max: one number a band}}, as standard JSON.

        A dataset, or a level of Sentinel-2, without any valid value has no entry; a single band without one has null.
        B10 of L2A has 0 everywhere, as in MMEarth. A statistic that is too large for float64 is null.
        """
        return {
            entry: {name: _seen(values, sums, entry) for name, values in sums.table().items()}
            for entry, sums in sorted(self._sums.items())
            if sums.count.any()
        }


def _entry(dataset: str, level: int) -> str:
    return f"{dataset}_{S2_LEVELS[level]}" if dataset in BY_LEVEL else dataset


def _seen(values: list[float], sums: IntegerSums | FloatSums, entry: str) -> list[float | None]:
    """Numbers with null for values that are not finite, and for bands without a value that the layout must contain."""
    absent = ABSENT_BANDS.get(entry, ())
    return [
        value if math.isfinite(value) and (count or band in absent) else None
        for band, (value, count) in enumerate(zip(values, sums.count.tolist(), strict=True))
    ]


def _valid(stored_Cn: NDArray[Any], no_data: tuple[float, ...]) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
    """Bands and their valid values (bands, m): bands without gaps together, bands with gaps one by one."""
    valid_Cn = np.isfinite(stored_Cn) if stored_Cn.dtype.kind == "f" else np.ones_like(stored_Cn, np.bool_)
    for value in no_data:
        valid_Cn &= stored_Cn != value
    # One band at a time, because counting along an axis is far slower in numpy.
    count_C = np.array([np.count_nonzero(valid_n) for valid_n in valid_Cn])
    whole_C = count_C == stored_Cn.shape[1]
    if whole_C.any():
        yield np.flatnonzero(whole_C), stored_Cn if whole_C.all() else stored_Cn[whole_C]
    for band in np.flatnonzero((count_C > 0) & ~whole_C).tolist():
        yield np.array([band]), stored_Cn[band][valid_Cn[band]][None]
