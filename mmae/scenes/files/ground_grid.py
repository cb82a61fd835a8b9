"""The grid of a raster on the ground: its CRS, its place, and how many metres its pixels measure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

from mmae.errors import InputError
from mmae.scenes.files.geo_extra import rasterio

METRES: Final = 10.0
"""Side of a pixel of MMEarth, which models have learned from."""
_TOLERANCE: Final = 0.05
_COARSEST: Final = 1000.0
"""Metres of a pixel beyond which resampling to 10 m would be a mistake: each pixel becomes 10 000."""
_EQUATOR_METRES: Final = 6_378_137.0
_ECCENTRICITY_SQUARED: Final = 6.694_379_990_14e-3


@dataclass(frozen=True)
class Grid:
    """North up.

    Attributes:
        crs: as well-known text.
        transform: the six numbers of an affine transform from column and row to the CRS: (a, b, c, d, e, f).
        height, width: pixels.
    """

    crs: str
    transform: tuple[float, float, float, float, float, float]
    height: int
    width: int

    @property
    def affine(self) -> Any:
        rasterio()
        from affine import Affine

        return Affine(*self.transform)

    def coarser(self, pixels: float, height: int, width: int) -> Grid:
        """The grid with the same corner, whose pixels measure so many of these."""
        a, b, c, d, e, f = self.transform
        return Grid(self.crs, (a * pixels, b, c, d, e * pixels, f), height, width)

    def metres(self) -> tuple[float, float]:
        """Width and height of the pixel in the middle of the raster, on the ground, in metres."""
        a, _, c, _, e, f = self.transform
        x, y = c + a * self.width / 2, f + e * self.height / 2
        from rasterio.warp import transform

        longitudes, latitudes = transform(
            rasterio().crs.CRS.from_wkt(self.crs), "EPSG:4326", [x, x + a, x], [y, y, y + e]
        )
        middle = (longitudes[0], latitudes[0])
        return (
            _distance(middle, (longitudes[1], latitudes[1])),
            _distance(middle, (longitudes[2], latitudes[2])),
        )

    def check_metres(self, path: str) -> None:
        """Raise InputError if a pixel does not measure 10 m."""
        width, height = self.metres()
        if not all(abs(side / METRES - 1) <= _TOLERANCE for side in (width, height)):
            raise InputError(
                f"{path}: its pixels measure {width:.3g} x {height:.3g} m on the ground, and the model has learned "
                f"from {METRES:g} m: say --resample, or give a file of that resolution"
            )

    def check_not_coarse(self, path: str) -> None:
        """Raise InputError if a pixel is far too large to be resampled to 10 m."""
        width, height = self.metres()
        if not max(width, height) <= _COARSEST:
            raise InputError(
                f"{path}: its pixels measure {width:.3g} x {height:.3g} m on the ground, and the first file decides "
                f"the grid: name one of at most {_COARSEST:g} m first"
            )

    def __str__(self) -> str:
        a, _, c, _, e, f = self.transform
        return f"{self.width}x{self.height} pixels of {a:g}x{-e:g} from {c:.10g}, {f:.10g}"


def grid_of(path: str, file: Any) -> Grid:
    """The grid of an open file.

    Raises:
        InputError: the file does not say where it lies, or its rows do not run from west to east.
    """
    if file.crs is None:
        raise InputError(
            f"{path}: it has no CRS, so nobody knows where it lies: set it, with gdal_edit.py -a_srs EPSG:..."
        )
    transform = file.transform
    if transform.is_identity:
        raise InputError(f"{path}: it has no place on the ground (no geotransform): set it, with gdal_edit.py -a_ullr")
    if transform.b or transform.d or transform.a <= 0 or transform.e >= 0:
        raise InputError(f"{path}: its grid is rotated or not north up: bring it to one that is, with gdalwarp")
    return Grid(file.crs.to_wkt(), tuple(transform)[:6], file.height, file.width)


def metre_grid(grid: Grid) -> Grid:
    """A grid over the same ground, whose pixels measure 10 m in its middle; the same one if they do."""
    a, b, c, d, e, f = grid.transform
    right, down = map(_pixels_of, grid.metres())
    return Grid(
        grid.crs,
        (a / right, b, c, d, e / down, f),
        math.ceil(grid.height * down - 1e-6),
        math.ceil(grid.width * right - 1e-6),
    )


def _pixels_of(metres: float) -> float:
    """How many pixels of 10 m are one of these: a whole number where it nearly is one, as projections stretch a bit."""
    ratio = metres / METRES
    whole = max(1, round(ratio))
    return whole if abs(ratio / whole - 1) <= _TOLERANCE else ratio


def _distance(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Metres between two near places, degrees east and north, on the ellipsoid of WGS 84."""
    east = math.radians((other[0] - one[0] + 180) % 360 - 180)
    north, latitude = math.radians(other[1] - one[1]), math.radians((one[1] + other[1]) / 2)
    curve = 1 - _ECCENTRICITY_SQUARED * math.sin(latitude) ** 2
    across = _EQUATOR_METRES / math.sqrt(curve) * math.cos(latitude) * east
    along = _EQUATOR_METRES * (1 - _ECCENTRICITY_SQUARED) / curve**1.5 * north
    return math.hypot(across, along)
