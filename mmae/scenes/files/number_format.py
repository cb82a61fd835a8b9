"""Vectors in fewer bytes: half precision, or 8-bit integers with a scale a dimension; and what that loses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmae.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

DTYPES: Final = ("float32", "float16", "int8")
LARGEST: Final = 127
NO_DATA_INT8: Final = -128


@dataclass(frozen=True, eq=False)
class NumberFormat:
    """How numbers are stored. A stored integer times `scale_D` is the number.

    Attributes:
        dtype: one of `DTYPES`.
        scale_D: float32, one a dimension; None where numbers are stored as they are.
    """

    dtype: str
    scale_D: NDArray[np.float32] | None = None

    def stored(self, values_ND: NDArray[np.float32]) -> NDArray[Any]:
        """Vectors (N, D) as they are stored; NaN is the no-data value."""
        if self.scale_D is None:
            return values_ND.astype(self.dtype)
        whole_ND = np.rint(values_ND / self.scale_D)
        return np.where(np.isnan(whole_ND), NO_DATA_INT8, whole_ND).astype(np.int8)

    def restored(self, stored_ND: NDArray[Any]) -> NDArray[np.float32]:
        """Stored vectors as float32; NaN where there is no data."""
        values_ND = stored_ND.astype(np.float32)
        if self.scale_D is None:
            return values_ND
        return np.where(stored_ND == NO_DATA_INT8, np.float32(np.nan), values_ND * self.scale_D)


@dataclass
class Loss:
    """What the stored numbers differ by from float32, summed over vectors.

    Attributes:
        relative: root of the summed squares of differences, over that of the numbers.
        least_cosine: the smallest cosine between a vector and what is stored of it.
    """

    vectors: int = 0
    least_cosine: float = 1.0
    _squares: list[float] = field(default_factory=lambda: [0.0, 0.0])

    def add(self, values_ND: NDArray[np.float32], restored_ND: NDArray[np.float32]) -> None:
        data_N = ~np.isnan(values_ND).any(1)
        exact_ND, stored_ND = (each[data_N].astype(np.float64) for each in (values_ND, restored_ND))
        if not len(exact_ND):
            return
        self.vectors += len(exact_ND)
        self._squares[0] += float(np.square(stored_ND - exact_ND).sum())
        self._squares[1] += float(np.square(exact_ND).sum())
        norms_N = np.linalg.norm(exact_ND, axis=1) * np.linalg.norm(stored_ND, axis=1)
        cosine_N = np.divide((exact_ND * stored_ND).sum(1), norms_N, out=np.ones(len(norms_N)), where=norms_N > 0)
        self.least_cosine = min(self.least_cosine, float(cosine_N.min()))

    @property
    def relative(self) -> float:
        return float(np.sqrt(self._squares[0] / self._squares[1])) if self._squares[1] else 0.0

    def __str__(self) -> str:
        return (
            f"relative error {self.relative:.2g}, least cosine {self.least_cosine:.6f} "
            f"over {self.vectors:,} vectors, against float32"
        )


def number_format(dtype: str, parts: Iterable[NDArray[np.float32]]) -> NumberFormat:
    """The format of a dtype for vectors (N, D) that come in parts; 8-bit integers use their whole range.

    Raises:
        InputError: a vector holds numbers that are too large for half precision.
    """
    if dtype == "float32":
        return NumberFormat(dtype)
    most_D: NDArray[np.float32] = np.zeros(1, np.float32)
    for values_ND in parts:
        finite_ND = np.where(np.isnan(values_ND), 0, np.abs(values_ND))
        most_D = np.maximum(most_D, finite_ND.max(0, initial=0))
    if dtype == "float16":
        if not most_D.max() <= np.finfo(np.float16).max:
            raise InputError(f"--dtype float16 cannot hold {most_D.max():.3g}, which occurs: say --dtype float32")
        return NumberFormat(dtype)
    return NumberFormat(dtype, np.where(most_D > 0, most_D / LARGEST, 1).astype(np.float32))
