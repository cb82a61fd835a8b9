"""Invented landscapes: smooth fields, and every dataset of MMEarth derived from the same few of them.

Elevation decides which land cover is likely, land cover decides spectra, backscatter and canopy, and relief
shades them. So one modality can be predicted from another, and a model has something to learn.
The same landscape is seen at both Sentinel-2 levels: L1C shows it through haze, L2A without haze and without B10.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmae.modalities import S2_LEVELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

Arrays = dict[str, "NDArray[Any]"]


@dataclass(frozen=True)
class Place:
    """A landscape. `bias` favours land cover classes; `orbit_bands` are the Sentinel-1 polarisations flown there."""

    name: str
    lat: float
    lon: float
    biome: int
    eco_region: int
    elevation: float
    relief: float
    celsius: float
    orbit_bands: tuple[int, int]
    bias: tuple[float, ...]


VV_VH: Final = (0, 1)
HH_HV: Final = (2, 3)
# Land cover classes:                                         tree shrub grass crop built bare snow water wet mangr moss
PLACES: Final = (
    Place("highland", 46.8, 9.8, 4, 231, 1500, 500, 6, VV_VH, (1.0, 0.5, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, -1, -9, 0.0)),
    Place("plain", 48.6, 2.1, 3, 664, 120, 40, 11, VV_VH, (0.5, 0.0, 0.5, 1.5, 1.0, 0.0, -9, 0.5, 0.0, -9, -9)),
    Place("arctic", 71.2, -52.4, 10, 418, 400, 200, -9, HH_HV, (-9, 0.0, 0.0, -9, -3, 1.0, 1.5, 1.0, 0.5, -9, 1.5)),
    Place("delta", 21.9, 89.2, 13, 309, 8, 4, 26, VV_VH, (0.5, 0.0, 0.0, 1.0, 0.5, 0.0, -9, 1.5, 1.0, 1.5, -9)),
    Place("savanna", -2.4, 34.9, 6, 57, 1100, 150, 22, VV_VH, (0.5, 1.5, 1.5, 0.5, 0.5, 0.5, -9, 0.5, 0.5, -9, -9)),
)
HELD_OUT: Final = len(PLACES) - 1
"""The place that only validation sees."""

WORLDCOVER: Final = np.array([10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 100], np.uint8)
DYNAMIC_WORLD: Final = np.array([2, 6, 3, 5, 7, 8, 9, 1, 4, 4, 3], np.uint8)
SCENE_CLASS: Final = np.array([4, 4, 4, 4, 5, 5, 11, 6, 4, 4, 4], np.uint8)
CANOPY_M: Final = np.array([22, 3, 0, 0, 0, 0, 0, 0, 1, 12, 0], np.float64)
BACKSCATTER_DB: Final = np.array([-8, -11, -13, -12, -4, -15, -14, -21, -12, -9, -14], np.float64)
PREFERRED_HEIGHT: Final = np.array([0.3, 0.3, 0.2, -0.4, -0.5, 0.9, 1.5, -1.2, -0.9, -1.0, 0.8])
# Reflectance x 10000 of each class in   B1    B2    B3    B4    B5    B6    B7   B8A    B8    B9  B10   B11   B12
SPECTRA: Final = np.array(
    [
        (200, 250, 450, 300, 800, 2200, 2700, 3000, 2900, 3000, 15, 1400, 650),
        (400, 500, 800, 850, 1300, 2100, 2400, 2700, 2600, 2700, 15, 2300, 1500),
        (350, 450, 850, 700, 1400, 2700, 3200, 3500, 3400, 3400, 15, 2400, 1300),
        (450, 600, 950, 950, 1500, 2500, 2900, 3200, 3100, 3200, 15, 2600, 1700),
        (1100, 1300, 1600, 1800, 2000, 2200, 2300, 2400, 2400, 2300, 15, 2500, 2200),
        (1200, 1500, 2100, 2700, 3000, 3200, 3300, 3500, 3400, 3400, 15, 4300, 3800),
        (8500, 8800, 8700, 8600, 8500, 8300, 8100, 7800, 8000, 7700, 40, 900, 700),
        (500, 450, 400, 250, 200, 150, 140, 110, 120, 100, 12, 60, 40),
        (300, 380, 620, 500, 950, 1700, 1950, 2100, 2050, 2050, 15, 1300, 700),
        (250, 300, 500, 350, 850, 1900, 2300, 2500, 2450, 2450, 15, 1100, 500),
        (380, 480, 760, 800, 1150, 1800, 2000, 2200, 2150, 2200, 15, 2000, 1300),
    ],
    np.float64,
)
HAZE: Final = np.array([900, 650, 400, 250, 200, 120, 100, 70, 80, 30, 0, 20, 10], np.float64)
B10: Final = 10
WAVES: Final = 8


def random(*words: int) -> np.random.Generator:
    """A separate generator for each list of numbers. Only `.random()` may be called, because its stream is stable."""
    return np.random.Generator(np.random.PCG64([word % 2**64 for word in words]))


def _field(rng: np.random.Generator, x_HW: NDArray[Any], y_HW: NDArray[Any], longest: float) -> NDArray[Any]:
    """A sum of plane waves of random direction and phase, of about unit variance."""
    number = 2 * np.pi / (longest * 0.15 ** rng.random(WAVES))
    angle, phase = 2 * np.pi * rng.random((2, WAVES))
    waves = np.cos(x_HW[..., None] * (number * np.cos(angle)) + y_HW[..., None] * (number * np.sin(angle)) + phase)
    summed: NDArray[Any] = waves.sum(-1) * np.sqrt(2 / WAVES)
    return summed


def pixel_arrays(seed: int, place_number: int, x: int, y: int, size: int, level: int, row: int) -> Arrays:
    """Every pixel dataset of the tile at pixel (x, y) of its place, without gaps, in MMEarth's dtypes.

    Args:
        x, y: the tile's upper left pixel.
    """
    place = PLACES[place_number]
    noise = random(seed, 1, row)
    y_HW, x_HW = np.mgrid[y : y + size, x : x + size].astype(np.float64)
    rng = random(seed, 0, place_number)
    height_HW = _field(rng, x_HW, y_HW, 600)
    vigour_HW = _field(rng, x_HW, y_HW, 120)
    cloud_HW = np.clip(12 * _field(rng, x_HW, y_HW, 200), 0, 100)
    scores = [_field(rng, x_HW, y_HW, 300) + bias for bias in place.bias]
    class_HW = np.argmax(np.stack(scores, -1) - 0.6 * (height_HW[..., None] - PREFERRED_HEIGHT) ** 2, -1)
    elevation_HW = np.maximum(place.elevation + place.relief * height_HW, 0)
    east_HW, north_HW = np.gradient(elevation_HW, 10.0, axis=1), np.gradient(elevation_HW, 10.0, axis=0)
    shade_HW = 1 + 0.5 * np.tanh(east_HW + north_HW)
    slope_HW = np.degrees(np.arctan(np.hypot(east_HW, north_HW)))
    canopy_HW = np.where(CANOPY_M[class_HW] > 0, np.maximum(CANOPY_M[class_HW] * (1 + 0.3 * vigour_HW), 0), 0)
    return {
        "sentinel2": _sentinel2(class_HW, vigour_HW, shade_HW, level, noise),
        "sentinel2_cloudmask": np.where(cloud_HW > 30, 1024, 0).astype(np.uint16)[None],
        "sentinel2_cloudprod": cloud_HW.astype(np.uint16)[None],
        "sentinel2_scl": np.where(cloud_HW > 30, 9, SCENE_CLASS[class_HW]).astype(np.uint8)[None],
        "sentinel1": _sentinel1(class_HW, shade_HW, place, (x + y) // size, noise),
        "aster": np.stack([elevation_HW, slope_HW]).round().astype(np.int16),
        "canopy_height_eth": np.stack([canopy_HW, 1 + 0.2 * canopy_HW]).clip(0, 100).round().astype(np.int8),
        "dynamic_world": DYNAMIC_WORLD[class_HW][None],
        "esa_worldcover": WORLDCOVER[class_HW][None],
    }


def _sentinel2(
    class_HW: NDArray[Any], vigour_HW: NDArray[Any], shade_HW: NDArray[Any], level: int, noise: np.random.Generator
) -> NDArray[np.uint16]:
    surface_CHW = np.moveaxis(SPECTRA[class_HW], -1, 0) * (1 + 0.15 * vigour_HW) * shade_HW
    if S2_LEVELS[level] == "l1c":
        surface_CHW = 0.9 * surface_CHW + HAZE[:, None, None]
    surface_CHW = surface_CHW * (0.98 + 0.04 * noise.random(surface_CHW.shape))
    # 0 is reserved for no data.
    stored_CHW: NDArray[np.uint16] = surface_CHW.round().clip(1, 20000).astype(np.uint16)
    if S2_LEVELS[level] == "l2a":
        stored_CHW[B10] = 0
    return stored_CHW


def _sentinel1(
    class_HW: NDArray[Any], shade_HW: NDArray[Any], place: Place, orbit: int, noise: np.random.Generator
) -> NDArray[np.float32]:
    speckle = 3 * noise.random((8, *class_HW.shape)) - 1.5
    offset_8 = np.array([0, -6.5, 0.5, -7.0] * 2)[:, None, None]
    mean_HW = BACKSCATTER_DB[class_HW] + 2 * (shade_HW - 1)
    decibel: NDArray[np.float32] = (mean_HW + offset_8 + speckle).astype(np.float32)
    flown = [(0,), (1,), (0, 1)][orbit % 3]
    measured = [4 * pass_ + band for pass_ in flown for band in place.orbit_bands]
    missing = [band for band in range(8) if band not in measured]
    decibel[missing] = -np.inf
    return decibel
