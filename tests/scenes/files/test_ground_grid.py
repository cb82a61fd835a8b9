from __future__ import annotations

import math

import pytest

from mmae.errors import InputError
from mmae.scenes.files.ground_grid import Grid, metre_grid
from tests.support.scenes import needs_rasterio

rasterio = needs_rasterio()


def grid(crs: str, x: float, y: float, pixel: tuple[float, float], size: int = 100) -> Grid:
    wkt = rasterio.crs.CRS.from_user_input(crs).to_wkt()
    return Grid(wkt, (pixel[0], 0.0, x, 0.0, -pixel[1], y), size, size)


@pytest.mark.parametrize(
    ("crs", "x", "y", "pixel", "metres"),
    [
        ("EPSG:32632", 5e5, 5e6, (10, 10), (10, 10)),
        ("EPSG:32719", 3e5, 7e6, (10, 10), (10, 10)),
        ("EPSG:3035", 4e6, 3e6, (10, 10), (10, 10)),
        ("EPSG:4326", 10, 60, (9e-5, 9e-5), (5, 10)),
        ("EPSG:4326", 10, 0.005, (9e-5, 9e-5), (10, 10)),
        # Web Mercator stretches by 1 / cos(latitude).
        ("EPSG:3857", 1e6, 8399737, (20, 20), (10, 10)),
        # US survey feet.
        ("EPSG:2263", 1e6, 2e5, (32.81, 32.81), (10, 10)),
    ],
)
def test_metres_are_those_on_the_ground(
    crs: str, x: float, y: float, pixel: tuple[float, float], metres: tuple[float, float]
) -> None:
    assert grid(crs, x, y, pixel).metres() == pytest.approx(metres, rel=5e-3)


def test_a_grid_of_10_m_over_the_same_ground() -> None:
    degrees = grid("EPSG:4326", 10, 60, (9e-5, 9e-5))
    found = metre_grid(degrees)
    assert found.metres() == pytest.approx((10, 10), rel=5e-3)
    assert (found.transform[2], found.transform[5]) == (10, 60)
    assert found.width * found.transform[0] == pytest.approx(100 * 9e-5, abs=found.transform[0])
    assert found.height == math.ceil(100 * 9e-5 / -found.transform[4] - 1e-6)
    already = grid("EPSG:32632", 5e5, 5e6, (10, 10))
    assert metre_grid(already) == already


def test_a_resolution_that_no_model_saw() -> None:
    with pytest.raises(InputError, match=r"^a: its pixels measure 30 x 30 m"):
        grid("EPSG:32632", 5e5, 5e6, (30, 30)).check_metres("a")
    grid("EPSG:32632", 5e5, 5e6, (10.3, 9.8)).check_metres("a")


def test_the_grid_of_patches() -> None:
    found = grid("EPSG:32632", 5e5, 5e6, (10, 10)).coarser(8, 13, 13)
    assert list(found.transform) == [80, 0, 5e5, 0, -80, 5e6]
    assert (found.height, found.width) == (13, 13)
