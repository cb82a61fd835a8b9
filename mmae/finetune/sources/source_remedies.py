"""What to do about images in other units than the statistics: the keys of a recipe."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

from mmae.inference.stored_units import REFLECTANCE

if TYPE_CHECKING:
    from mmae.data.checks.units import Finding

_REMEDIES: Final = MappingProxyType(
    {
        "offset": "set source.offset=-1000, which is added to what is not 0",
        "level": "set source.level to the level that they are of",
        "order": "set source.bands to the names of the images' bands in their order",
        "decibel": "set source.units=linear, which takes 10 log10 of them",
        "codes": "translate them to these",
    }
)
"""Kind of finding -> what to do about it. The rest is about scales."""


def source_remedy(finding: Finding) -> str:
    """What the user of a source does about values in other units, for the message."""
    if finding.kind in _REMEDIES:
        return _REMEDIES[finding.kind]
    if np.isfinite(finding.factor) and 0.1 <= finding.factor / REFLECTANCE <= 10:
        return f"set source.units=reflectance, which multiplies them by {REFLECTANCE:g}"
    return "set data.normalise=data, which takes the statistics of these images"
