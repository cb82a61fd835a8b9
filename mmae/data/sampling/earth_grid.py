"""A grid of cubic cells around the Earth's centre: places near one another lie in one cell or in adjacent cells."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

EARTH_KM: Final = 6371.0


def unit_vectors(lat: NDArray[np.float64], lon: NDArray[np.float64]) -> NDArray[np.float64]:
    """Places in degrees (N,) as points of the unit sphere (N, 3), where poles and the date line are not special."""
    phi, lam = np.radians(lat), np.radians(lon)
    return np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)], axis=1)


@dataclass(frozen=True)
class EarthGrid:
    """Cells with sides of `cell_km`. Two places that are nearer than that lie in one cell or in cells that touch."""

    cell_km: float

    def keys(self, lat: NDArray[np.float64], lon: NDArray[np.float64]) -> NDArray[np.int64]:
        """The cell of each place, int64 (N,); all coordinates must be known."""
        # There is one cell of margin, so that the keys of all neighbours stay positive.
        margin = int(EARTH_KM / self.cell_km) + 2
        cells = np.floor(unit_vectors(lat, lon) * (EARTH_KM / self.cell_km)).astype(np.int64) + margin
        return (cells[:, 0] * self._side + cells[:, 1]) * self._side + cells[:, 2]

    @cached_property
    def steps(self) -> list[int]:
        """Differences of key between a cell and the 27 cells that touch it, also at corners and including itself."""
        return [column + z for column in self.columns for z in (-1, 0, 1)]

    @cached_property
    def columns(self) -> list[int]:
        """Differences of key between a cell and the middle cells of the nine columns that `steps` consists of."""
        return [(x * self._side + y) * self._side for x in (-1, 0, 1) for y in (-1, 0, 1)]

    @property
    def _side(self) -> int:
        return 2 * int(EARTH_KM / self.cell_km) + 5
