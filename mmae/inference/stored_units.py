"""Users' arrays in the units and dtypes in which MMEarth stores its datasets.

A dataset that is `sentinel2` may come as reflectance, one that is `sentinel1` as linear power. A value without data
(0 and below of Sentinel-2, NaN) stays without data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor

from mmae.errors import InputError, did_you_mean
from mmae.inference.undeclared_no_data import is_no_measurement
from mmae.modalities import MODALITIES
from mmae.raw_tiles import without_mask

if TYPE_CHECKING:
    from mmae.data.checks.units import Finding

Units = str | Mapping[str, str] | None
"""Name of the units of all arrays that have such units, or by dataset; None: as MMEarth stores them."""

REFLECTANCE: Final = 10_000.0
"""Stored Sentinel-2 values for a reflectance of 1."""

_SENTINEL2: Final = "sentinel2"
_STRAY: Final = 0.01
"""Share of saturated numbers that a scene may have."""
_MARKS: Final = {65535: "uint16", 32767: "int16"}
"""The largest numbers of the dtypes that products have: they stay marks in a wider dtype, such as float32."""
_TOO_DARK: Final = 0.05
"""Share of numbers below half of an offset: a product that has the offset holds a reflectance below -0.05 nowhere."""
_KEPT: Final = frozenset({torch.uint8, torch.int16, torch.uint16, torch.int32})
"""Integers that the preprocessing reads as they are; others could overflow there."""


def _decibels(power: Tensor) -> Tensor:
    return torch.where(power > 0, 10 * torch.log10(power.clamp(min=1e-30)), torch.nan)


_CONVERSIONS: Final[Mapping[str, Mapping[str, Callable[[Tensor], Tensor] | None]]] = MappingProxyType(
    {
        "sentinel2": {"dn": None, "reflectance": lambda values: values * REFLECTANCE},
        "sentinel1": {"db": None, "linear": _decibels},
    }
)
"""Dataset -> units -> how values become those that MMEarth stores; None: they are those."""


_REMEDIES: Final = MappingProxyType(
    {
        "offset": "say offset=-1000, which is added to what is not 0",
        "level": "say the level that they are of",
        "order": "name the bands in the order of the array",
        "decibel": "say units='linear', which takes 10 log10 of them",
        "codes": "translate them to these",
    }
)
"""Kind of finding -> what to do about it. The rest is about scales."""


def remedy(finding: Finding) -> str:
    """What a user of arrays does about values in other units, for the message."""
    if finding.kind in _REMEDIES:
        return _REMEDIES[finding.kind]
    if not np.isfinite(finding.factor):
        return "bring the values to the units of the statistics (band_stats in the model's config.json)"
    if 0.1 <= finding.factor / REFLECTANCE <= 10:
        return f"say units='reflectance', which multiplies them by {REFLECTANCE:g}"
    return f"multiply them by about {10.0 ** round(np.log10(finding.factor)):g}"


def as_stored(values: Tensor | np.ndarray[Any, Any], dataset: str, units: Units, offset: float) -> Tensor:
    """An array of one dataset as MMEarth would store it: its units, and an integer dtype or float32.

    Args:
        values: numpy array or tensor of any integer or floating-point dtype; gradients are not kept. What a numpy mask
            hides is no data; so is a number that can only be a mark of it, such as -9999 m.
        units: see `check_units_known`; an array that holds reflectance or linear power is converted.
        offset: is added to Sentinel-2's stored values where there is data. It is the product's own additive offset
            (`BOA_ADD_OFFSET`, `RADIO_ADD_OFFSET`): -1000 for baseline 04.00 and later. What would fall to 0 or below
            becomes 1, because 0 means no data. What was below 0 before is no data: no product stores such numbers, and
            -9999 is a common mark.

    Raises:
        InputError: the dtype is none of numbers.
    """
    stored = _without_marks(_tensor(values, dataset), dataset)
    convert = _conversion(dataset, units)
    lifted = dataset == _SENTINEL2 and offset != 0
    if convert is not None:
        stored = convert(stored.to(torch.float32))
    if dataset == _SENTINEL2 and bool((below := _below(stored)).any()):
        stored = torch.where(below, torch.nan, stored.to(torch.float32))
    if lifted:
        floats = stored.to(torch.float32)
        stored = torch.where(floats != 0, (floats + offset).clamp(min=1), 0)
    if stored.dtype in _KEPT:
        return stored
    if _is_categorical(dataset) and not stored.is_floating_point():
        return stored.to(torch.int64)
    return stored.to(torch.float32)


def check_marks(values: Tensor | np.ndarray[Any, Any], dataset: str) -> None:
    """Refuse Sentinel-2 arrays whose numbers cannot all be measured: 8-bit pictures, and marks of no data.

    Raises:
        InputError: the array has 8 bits a number, or the largest integer of its dtype, or of those that products have,
            is more than a few stray numbers.
    """
    if dataset != _SENTINEL2:
        return
    stored, marks = _tensor(values, dataset), dict(_MARKS)
    if not stored.is_floating_point():
        name, limits = str(stored.dtype).removeprefix("torch."), torch.iinfo(stored.dtype)
        if limits.bits <= 8:
            raise InputError(
                f"{dataset} has dtype {name}, as pictures have, and digital numbers (reflectance x 10000) need 16 "
                "bits: give the product's own numbers; if they are right all the same, use check_units=False"
            )
        marks[limits.max] = name
    floats = stored.to(torch.float32)
    for mark, name in marks.items():
        share = float((floats == float(mark)).to(torch.float32).mean())
        if share > _STRAY:
            raise InputError(
                f"{dataset}: {share:.0%} of the numbers are {mark}, the largest of {name}, which marks no data: set "
                "them to 0; if they are right all the same, use check_units=False"
            )


def check_offset(values: Tensor | np.ndarray[Any, Any], dataset: str, units: Units, offset: float) -> None:
    """Refuse an offset that has been subtracted from Sentinel-2's numbers before: they would be too dark.

    Raises:
        InputError: as said.
    """
    if dataset != _SENTINEL2 or offset >= 0:
        return
    stored = as_stored(values, dataset, units, 0).to(torch.float32)
    stored = stored[stored > 0]
    share = float((stored < -offset / 2).to(torch.float32).mean()) if len(stored) else 0.0
    if share > _TOO_DARK:
        raise InputError(
            f"offset={offset:g}: {share:.0%} of {dataset}'s numbers are below {-offset / 2:g}, and products with this "
            "offset have none: it was subtracted before, so leave it out; if it is right all the same, use "
            "check_units=False"
        )


def check_units_known(datasets: tuple[str, ...], units: Units, offset: float) -> None:
    """Refuse units and offsets that none of the arrays can have.

    Raises:
        InputError: the name of the units or dataset is unknown; or an offset is no finite number, is given without
            Sentinel-2, or is of reflectance.
    """
    if not _is_finite(offset):
        raise InputError(f"offset={offset!r:.80}: give a finite number, such as -1000")
    if 0 < abs(offset) < 1:
        raise InputError(
            f"offset={offset:g} is too small: it is added to digital numbers (reflectance x {REFLECTANCE:g}), also "
            f"where the units are reflectance: say offset={offset * REFLECTANCE:g}"
        )
    if offset and _SENTINEL2 not in datasets:
        raise InputError(f"offset={offset:g} is for sentinel2, and its array is not given: leave it out")
    for dataset in units if isinstance(units, Mapping) else ():
        if dataset not in datasets:
            raise InputError(f"units of {dataset!r}: its array is not given{did_you_mean(str(dataset), datasets)}")
    for word in units.values() if isinstance(units, Mapping) else (() if units is None else (units,)):
        offered = {name: _CONVERSIONS.get(name, {}) for name in datasets}
        if isinstance(units, Mapping):
            offered = {name: words for name, words in offered.items() if units.get(name) == word}
        if not any(str(word).lower() in words for words in offered.values()):
            listed = "; ".join(f"{name}: {', '.join(words) or 'as stored only'}" for name, words in offered.items())
            raise InputError(f"units {word!r} are not known ({listed})")


def _conversion(dataset: str, units: Units) -> Callable[[Tensor], Tensor] | None:
    word = units.get(dataset) if isinstance(units, Mapping) else units
    return None if word is None else _CONVERSIONS.get(dataset, {}).get(word.lower())


def _tensor(values: Any, dataset: str) -> Tensor:
    if isinstance(values, Tensor):
        stored = values.detach()
        if stored.layout is not torch.strided or stored.is_meta:
            raise InputError(f"{dataset} is a sparse or an empty (meta) tensor: give a dense one with numbers")
    else:
        array = without_mask(np.asanyarray(values), dataset)
        if array.dtype.kind not in "iuf":
            raise InputError(f"{dataset} has dtype {array.dtype}: give integers or floating-point numbers")
        # torch has neither other byte orders nor long doubles.
        # Nor has it negative strides, as flipped arrays have.
        array = np.ascontiguousarray(array)
        native = array.dtype.newbyteorder("=") if array.dtype.itemsize <= 8 else np.dtype(np.float64)
        stored = torch.tensor(array.astype(native, copy=False))
    if stored.dtype is torch.bool or stored.is_complex():
        raise InputError(f"{dataset} has dtype {stored.dtype}: give integers or floating-point numbers")
    return stored


def _is_finite(number: Any) -> bool:
    is_number = isinstance(number, int | float | np.number) and not isinstance(number, bool)
    # Integers of Python may be beyond every float.
    return is_number and bool(-1e30 < number < 1e30)


def _below(stored: Tensor) -> Tensor:
    """Where a number is below 0, bool, same shape."""
    # torch compares no uint16.
    unsigned = not stored.is_floating_point() and torch.iinfo(stored.dtype).min == 0
    return torch.zeros_like(stored, dtype=torch.bool) if unsigned else stored < 0


def _without_marks(stored: Tensor, dataset: str) -> Tensor:
    """The same numbers; NaN where one can only be a mark of no data."""
    if dataset == _SENTINEL2 or _is_categorical(dataset):
        return stored
    marked = is_no_measurement(stored.to(torch.float64).numpy(force=True))
    if not marked.any():
        return stored
    return torch.where(torch.from_numpy(marked).to(stored.device), torch.nan, stored.to(torch.float32))


def _is_categorical(dataset: str) -> bool:
    return any(row.categorical for row in MODALITIES.values() if row.dataset == dataset)
