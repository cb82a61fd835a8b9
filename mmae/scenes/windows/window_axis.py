"""Where windows lie along one axis of a scene, and how much each of them weighs: pure functions over integers.

Everything is counted in patches: the places of tokens. A raster may have several cells a patch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class WindowAxis:
    """Windows along one axis.

    Attributes:
        length: patches of the scene, at least `window`.
        window: patches of a window.
        overlap: patches that neighbours share, less than `window`. The last window ends where the scene ends, so it
            may share more.
    """

    length: int
    window: int
    overlap: int

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """The first patch of each window."""
        last = self.length - self.window
        return (*range(0, last, self.window - self.overlap), last)

    def touching(self, begin: int, end: int) -> range:
        """The windows that hold any of the patches from `begin` up to `end`."""
        chosen = [number for number, start in enumerate(self.starts) if start < end and start + self.window > begin]
        return range(chosen[0], chosen[-1] + 1)

    def weights(self, number: int, cells: int) -> NDArray[np.float32]:
        """The share that a window has in each of its cells, float32 (window x cells,).

        The shares of all windows that hold a cell add up to 1. Where no other window lies, the share is exactly 1.
        """
        start = self.starts[number] * cells
        share = _raw(self.window, self.overlap, cells) / self._totals(cells)[start : start + self.window * cells]
        return share.astype(np.float32)

    def _totals(self, cells: int) -> NDArray[np.float64]:
        return _totals(self, cells)


def _raw(window: int, overlap: int, cells: int) -> NDArray[np.float64]:
    """Weights before they are normalised: sin^2 over the overlaps, whose mirror image adds up to 1 with it."""
    size, ramp = window * cells, overlap * cells
    place = np.arange(size) + 0.5
    rise = np.sin(np.pi / 2 * np.minimum(place / ramp, 1)) ** 2 if ramp else np.ones(size)
    return rise * rise[::-1]


@lru_cache(maxsize=8)
def _totals(axis: WindowAxis, cells: int) -> NDArray[np.float64]:
    totals, raw = np.zeros(axis.length * cells), _raw(axis.window, axis.overlap, cells)
    for start in axis.starts:
        totals[start * cells : (start + axis.window) * cells] += raw
    return totals
