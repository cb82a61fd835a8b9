from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mmae.scenes.files.geotiffs import SceneBand, open_scene
from tests.support.scenes import needs_rasterio, write_geotiff

rasterio = needs_rasterio()

COARSE = (20.0, 0.0, 5e5, 0.0, -20.0, 5e6)
PLACES = {"sentinel2": ("B2", "B3"), "aster": ("elevation", "slope"), "canopy_height_eth": ("height",)}


def resampled(path: Path, values_CHW: NDArray[Any], dataset: str, how: str, nodata: float | None) -> NDArray[Any]:
    """What is read of a file of 20 m at 10 m."""
    write_geotiff(path, values_CHW, None, transform=COARSE, nodata=nodata)
    names = PLACES[dataset][: len(values_CHW)]
    scene = open_scene([SceneBand(str(path), at + 1, dataset, name) for at, name in enumerate(names)], how)
    with scene.opened() as reader:
        found: NDArray[Any] = reader.read(0, 0, scene.grid.height, scene.grid.width)[dataset]
    return found


def is_data(found: NDArray[Any]) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(found) & (found != 0))


@pytest.mark.parametrize("how", ["nearest", "bilinear", "average"])
@pytest.mark.parametrize(
    ("dataset", "dtype", "declared", "marks"),
    [
        ("sentinel2", np.uint16, 0, (0,)),
        ("sentinel2", np.uint16, 65535, (0, 65535)),
        ("sentinel2", np.uint16, None, (0,)),
        ("sentinel2", np.int16, -1, (0, -1, -9999)),
        ("sentinel2", np.float32, -1, (0, -1, -9999, np.nan, np.inf, -np.inf)),
        ("aster", np.int16, None, (-9999, -32768)),
        ("aster", np.int16, 0, (0, -9999)),
        ("aster", np.float64, -1, (-1, -9999, -3.4e38, 1e20, 1e300, np.nan, np.inf)),
        ("canopy_height_eth", np.uint8, None, (127,)),
        ("canopy_height_eth", np.uint8, 255, (127, 255)),
    ],
)
def test_nothing_that_is_no_data_is_mixed_into_its_neighbours(
    how: str, dataset: str, dtype: Any, declared: float | None, marks: tuple[float, ...], tmp_path: Path
) -> None:
    """Each kind of no data covers a part of the first band; the second one, if there is one, has data everywhere."""
    values = np.full((len(PLACES[dataset]), 4, 4 * len(marks)), 100).astype(dtype)
    for number, mark in enumerate(marks):
        values[0, :, 4 * number : 4 * number + 2] = mark
    found = resampled(tmp_path / "a.tif", values, dataset, how, declared)
    assert np.unique(found[is_data(found)]).tolist() == [100]
    # The columns beside the border between data and no data may be either; the others are not.
    columns = np.arange(found.shape[-1]) % 8
    assert not is_data(found[0][:, (columns > 0) & (columns < 3)]).any()
    assert is_data(found[0][:, (columns > 4) & (columns < 7)]).all()
    assert is_data(found[1:]).all()


def test_numbers_stay_exactly_what_they_are(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    heights = draw.normal(500, 700, (1, 9, 9)).astype(np.float32)
    heights[0, 0, :3] = 0, -430.5, 8849
    found = resampled(tmp_path / "a.tif", heights, "aster", "nearest", None)
    np.testing.assert_array_equal(found[0], heights[0].repeat(2, 0).repeat(2, 1))
    dn = np.arange(1, 82, dtype=np.uint16).reshape(1, 9, 9) * 809
    dn[0, 0, :3] = 1, 2, 65535
    found = resampled(tmp_path / "b.tif", dn, "sentinel2", "nearest", None)
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found[0], dn[0].repeat(2, 0).repeat(2, 1))


def test_what_a_mask_of_the_file_hides_is_no_data_beside_what_its_numbers_hide(tmp_path: Path) -> None:
    values = np.full((1, 6, 12), 100, np.uint16)
    values[..., :2], values[..., 6:8] = 0, 9999
    path = write_geotiff(tmp_path / "a.tif", values, None, transform=COARSE, nodata=None)
    hidden = np.full((6, 12), 255, np.uint8)
    hidden[:, 6:8] = 0
    with rasterio.open(path, "r+") as file:
        file.write_mask(hidden)
    with open_scene([SceneBand(str(path), 1, "sentinel2", "B2")], "bilinear").opened() as reader:
        found = reader.read(0, 0, 12, 24)["sentinel2"]
    assert set(np.unique(found).tolist()) == {0, 100}
    assert not found[..., 13:15].any()


def test_the_name_of_a_file_is_not_read_as_anything_else(tmp_path: Path) -> None:
    name = "a & <b> \"c\" 'é' %20;x=1.tif"
    found = resampled(tmp_path / name, np.full((1, 4, 4), 7, np.uint16), "sentinel2", "bilinear", None)
    assert (found == 7).all()
