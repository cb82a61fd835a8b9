"""Numbers that no instrument gives: a source marks pixels without data with them, and may not say so.

Sentinel-2 is not judged here: 0 and below are no data in it. Nor are class codes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

ABOVE: Final = -9999
"""Elevations, slopes, decibels and heights of trees are above it. Common marks are -9999, -32768 and -3.4e38."""
BELOW: Final = 1_000_000
"""They are below it, too, also elevations in feet or centimetres. Common marks are 1e20, 9.97e36 and 3.4e38."""


def is_no_measurement(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Where a number can only be a mark, bool of the same shape. NaN is none: it speaks for itself."""
    found: NDArray[np.bool_] = (values <= ABOVE) | (values >= BELOW)
    return found
