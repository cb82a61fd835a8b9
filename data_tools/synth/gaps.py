"""Every way in which a tile of MMEarth can lack data. Each way is a function that changes a tile's arrays in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from data_tools.synth.scene import Arrays

Gap = Callable[["Arrays"], None]

CLOUD_LAYERS: Final = {"sentinel2_cloudmask": 65535, "sentinel2_cloudprod": 65535, "sentinel2_scl": 255}
B4: Final = 3
B10: Final = 10


def _corner(arrays: Arrays) -> NDArray[np.bool_]:
    """The upper left triangle of a tile, bool (H, W)."""
    size = arrays["aster"].shape[-1]
    row_HW, column_HW = np.mgrid[:size, :size]
    corner: NDArray[Any] = row_HW + column_HW < size * 2 // 3
    return corner


def swath_edge(arrays: Arrays) -> None:
    """Sentinel-2 ends within the tile."""
    corner_HW = _corner(arrays)
    arrays["sentinel2"][:, corner_HW] = 0
    for name, value in CLOUD_LAYERS.items():
        arrays[name][:, corner_HW] = value


def lost_pixels(arrays: Arrays) -> None:
    """Single Sentinel-2 pixels are missing, and each band misses different ones."""
    for band, pixels_HW in enumerate(arrays["sentinel2"]):
        pixels_HW.reshape(-1)[band::97] = 0


def lost_band(arrays: Arrays) -> None:
    """One Sentinel-2 band is missing from the whole tile."""
    arrays["sentinel2"][B4] = 0


def no_sentinel2(arrays: Arrays) -> None:
    arrays["sentinel2"][:] = 0
    for name, value in CLOUD_LAYERS.items():
        arrays[name][:] = value


def saturated(arrays: Arrays) -> None:
    """Values are valid, but larger than a signed 16-bit integer can hold."""
    eighth = arrays["aster"].shape[-1] // 8
    arrays["sentinel2"][:B10, :eighth, :eighth] = 40000
    arrays["sentinel2"][:B10, 0, 0] = 65535


def no_sentinel1(arrays: Arrays) -> None:
    arrays["sentinel1"][:] = -np.inf


def canopy_holes(arrays: Arrays) -> None:
    arrays["canopy_height_eth"][:, _corner(arrays)] = 127


def no_canopy(arrays: Arrays) -> None:
    arrays["canopy_height_eth"][:] = 127


def worldcover_holes(arrays: Arrays) -> None:
    """Both of WorldCover's no-data codes occur in one tile."""
    arrays["esa_worldcover"][:, _corner(arrays)] = 0
    arrays["esa_worldcover"][:, _corner(arrays)[::-1, ::-1]] = 255


def no_worldcover(arrays: Arrays) -> None:
    arrays["esa_worldcover"][:] = 0


def dynamic_world_holes(arrays: Arrays) -> None:
    """Some pixels are missing, and some have labels that belong to no class."""
    arrays["dynamic_world"][:, _corner(arrays)] = 0
    arrays["dynamic_world"][:, _corner(arrays)[::-1, ::-1]] = 17


def era5_holes(arrays: Arrays) -> None:
    arrays["era5"][:4] = np.nan
    arrays["era5"][4:6] = np.inf


def no_era5(arrays: Arrays) -> None:
    arrays["era5"][:] = np.nan


def no_biome(arrays: Arrays) -> None:
    arrays["biome"][:] = 0
    arrays["eco_region"][:] = 0


def flat_sea(arrays: Arrays) -> None:
    """Elevation is constant: it is valid, but its standard deviation is zero."""
    arrays["aster"][:] = 0


def nearly_nothing(arrays: Arrays) -> None:
    """All Sentinel-2 pixels but one are missing, and so is everything else that can be missing."""
    middle = arrays["aster"].shape[-1] // 2
    pixel_C = np.maximum(arrays["sentinel2"][:, middle, middle], 1)
    for remove in (no_sentinel2, no_sentinel1, no_canopy, no_worldcover, no_era5, no_biome, flat_sea):
        remove(arrays)
    arrays["dynamic_world"][:] = 0
    arrays["sentinel2"][:B4, middle, middle] = pixel_C[:B4]


GAPS: Final[tuple[Gap, ...]] = (
    swath_edge,
    no_biome,
    lost_pixels,
    no_sentinel2,
    worldcover_holes,
    nearly_nothing,
    canopy_holes,
    no_sentinel1,
    dynamic_world_holes,
    lost_band,
    era5_holes,
    saturated,
    no_worldcover,
    flat_sea,
    no_canopy,
    no_era5,
)


def gap_rows(tiles: int) -> dict[int, Gap]:
    """The gap of each row that has one. Every gap occurs, and gaps are evenly spread. Each gap needs a tile."""
    total = len(GAPS) * max(1, tiles // (8 * len(GAPS)))
    # With an even step, all gaps would fall on the same Sentinel-2 level.
    odd = tiles >= 2 * total
    return {number * tiles // total + (number % 2 if odd else 0): GAPS[number % len(GAPS)] for number in range(total)}
