"""Normalisers of features, fitted on training rows: none, centre (mean 0), zscore (mean 0 and deviation 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from torch import Tensor

from mmae.errors import InputError, did_you_mean

NORMALISERS: Final = ("none", "centre", "zscore")

_SMALLEST: Final = 1e-6
"""Of a dimension's deviation, relative to the largest: what varies less is rounding, and is not blown up."""


@dataclass(frozen=True, eq=False)
class Normaliser:
    """(x - shift_D) * scale_D, float64; None leaves a step out."""

    shift_D: Tensor | None = None
    scale_D: Tensor | None = None

    def __call__(self, x_MD: Tensor) -> Tensor:
        x_MD = x_MD.double()
        if self.shift_D is not None:
            x_MD = x_MD - self.shift_D
        return x_MD if self.scale_D is None else x_MD * self.scale_D


def fit_normaliser(name: str, x_ND: Tensor) -> Normaliser:
    """A normaliser of features (N, D) with at least one row.

    Raises:
        InputError: there is no such normaliser.
    """
    if name not in NORMALISERS:
        raise InputError(f"normaliser {name!r} is not known{did_you_mean(name, NORMALISERS)}")
    if name == "none":
        return Normaliser()
    x_ND = x_ND.double()
    mean_D = x_ND.mean(0)
    if name == "centre":
        return Normaliser(mean_D)
    deviation_D = x_ND.std(0, correction=0)
    flat_D = deviation_D <= _SMALLEST * deviation_D.max()
    # A dimension that does not vary is 0 for all rows.
    return Normaliser(mean_D, (1 / deviation_D.masked_fill(flat_D, 1)).masked_fill(flat_D, 0))
