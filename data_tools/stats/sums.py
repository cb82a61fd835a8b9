"""Sums from which mean, deviation and extremes of each band follow: exact for small integers, float64 for the rest.

Shape letters: C bands, m values of each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Squares of 16 bits summed over so many pixels stay below 2^53: float64 arithmetic on them is exact.
_EXACT_PIXELS: Final = 1 << 20
_LOW_BITS: Final = 32


class _Sums:
    """The base of both kinds of sums: named fields with one number a band.

    Attributes:
        count: int64 (C,), number of values so far.
    """

    FIELDS: tuple[str, ...] = ()
    count: NDArray[np.int64]

    def __init__(self, bands: int) -> None:
        raise NotImplementedError

    @classmethod
    def from_fields(cls, fields: Mapping[str, NDArray[Any]]) -> Self:
        """Raises ValueError where `fields` are not those of this kind."""
        made = cls(len(fields.get("count", ())))
        if set(fields) != set(cls.FIELDS):
            raise ValueError(f"fields {sorted(fields)}, not {sorted(cls.FIELDS)}")
        for name, values in fields.items():
            empty = getattr(made, name)
            if values.dtype != empty.dtype or values.shape != empty.shape:
                raise ValueError(f"{name} is {values.dtype} {values.shape}, not {empty.dtype} {empty.shape}")
            setattr(made, name, values.copy())
        return made


class IntegerSums(_Sums):
    """Exact sums of integers of at most 16 bits.

    Attributes:
        total: int64 (C,), sum of the values.
        low, high: int64 (C,), sum of their squares = low + 2^32 high.
        least, most: int64 (C,); beyond any value where count is 0.
    """

    FIELDS = ("count", "total", "low", "high", "least", "most")

    def __init__(self, bands: int) -> None:
        self.count, self.total, self.low, self.high = np.zeros((4, bands), np.int64)
        self.least = np.full(bands, np.iinfo(np.int64).max)
        self.most = np.full(bands, np.iinfo(np.int64).min)

    def add(self, bands: NDArray[np.int64], values_Cm: NDArray[Any]) -> None:
        """Add integers of at most 16 bits, (C, m > 0), of the bands with these numbers."""
        self.count[bands] += values_Cm.shape[1]
        self.least[bands] = np.minimum(self.least[bands], values_Cm.min(1))
        self.most[bands] = np.maximum(self.most[bands], values_Cm.max(1))
        for start in range(0, values_Cm.shape[1], _EXACT_PIXELS):
            exact_Cm = values_Cm[:, start : start + _EXACT_PIXELS].astype(np.float64)
            squares = _squares(exact_Cm).astype(np.int64)
            self.total[bands] += exact_Cm.sum(1).astype(np.int64)
            self.low[bands] += squares & ((1 << _LOW_BITS) - 1)
            self.high[bands] += squares >> _LOW_BITS

    def merge(self, other: IntegerSums) -> None:
        for name in ("count", "total", "low", "high"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.least = np.minimum(self.least, other.least)
        self.most = np.maximum(self.most, other.most)

    def table(self) -> dict[str, list[float]]:
        """mean, std, min, max, correctly rounded; 0 for a band without a value."""
        rows = [_moments(*row) for row in zip(*(getattr(self, name).tolist() for name in self.FIELDS), strict=True)]
        return dict(zip(("mean", "std", "min", "max"), map(list, zip(*rows, strict=True)), strict=True))


def _moments(count: int, total: int, low: int, high: int, least: int, most: int) -> tuple[float, float, float, float]:
    if count == 0:
        return 0.0, 0.0, 0.0, 0.0
    # In Python's integers: the difference of two nearly equal numbers would lose digits in float64.
    variance = Fraction(count * (low + (high << _LOW_BITS)) - total * total, count * count)
    return float(Fraction(total, count)), math.sqrt(variance), float(least), float(most)


class FloatSums(_Sums):
    """Mean and squared deviations in float64, about a value of the numbers' own size.

    Attributes:
        shift: float64 (C,), the first value. It is subtracted from all, so that a large offset costs no digits.
        mean: float64 (C,), minus `shift`.
        squares: float64 (C,), sum of squared deviations from the mean.
        least, most: float64 (C,); infinite where count is 0.
    """

    FIELDS = ("count", "shift", "mean", "squares", "least", "most")

    def __init__(self, bands: int) -> None:
        self.count = np.zeros(bands, np.int64)
        self.shift, self.mean, self.squares = np.zeros((3, bands))
        self.least, self.most = np.full(bands, np.inf), np.full(bands, -np.inf)

    def add(self, bands: NDArray[np.int64], values_Cm: NDArray[Any]) -> None:
        """Add finite numbers, (C, m > 0), of the bands with these numbers."""
        about_Cm = values_Cm.astype(np.float64)
        self.least[bands] = np.minimum(self.least[bands], about_Cm.min(1))
        self.most[bands] = np.maximum(self.most[bands], about_Cm.max(1))
        self.shift[bands] = np.where(self.count[bands] == 0, about_Cm[:, 0], self.shift[bands])
        # An overflow of float64 gives an infinite or undefined statistic, which the caller handles.
        with np.errstate(over="ignore", invalid="ignore"):
            about_Cm -= self.shift[bands, None]
            mean = about_Cm.mean(1)
            about_Cm -= mean[:, None]
            self._join(bands, np.int64(values_Cm.shape[1]), mean, _squares(about_Cm))

    def _join(self, bands: NDArray[np.int64], count: Any, mean: NDArray[np.float64], squares: Any) -> None:
        total = self.count[bands] + count
        delta = mean - self.mean[bands]
        self.squares[bands] += squares + delta * delta * (self.count[bands] * (count / total))
        self.mean[bands] += delta * (count / total)
        self.count[bands] = total

    def merge(self, other: FloatSums) -> None:
        bands = np.flatnonzero(other.count)
        fresh = bands[self.count[bands] == 0]
        self.shift[fresh] = other.shift[fresh]
        with np.errstate(over="ignore", invalid="ignore"):
            mean = (other.shift[bands] - self.shift[bands]) + other.mean[bands]
            self._join(bands, other.count[bands], mean, other.squares[bands])
        self.least = np.minimum(self.least, other.least)
        self.most = np.maximum(self.most, other.most)

    def table(self) -> dict[str, list[float]]:
        """mean, std, min, max; 0 for a band without a value, not finite after an overflow of float64."""
        with np.errstate(over="ignore", invalid="ignore"):
            std = np.sqrt(self.squares / np.maximum(self.count, 1))
            columns = {"mean": self.shift + self.mean, "std": std, "min": self.least, "max": self.most}
        return {name: np.where(self.count > 0, column, 0.0).tolist() for name, column in columns.items()}


def _squares(values_Cm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of squares of each row, float64 (C,)."""
    squares: NDArray[np.float64] = np.matmul(values_Cm[:, None, :], values_Cm[:, :, None])[:, 0, 0]
    return squares
