from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmae.errors import InputError
from mmae.scenes.files.geotiffs import SceneBand, band_names, open_scene
from tests.support.scenes import needs_rasterio, pixels, write_geotiff

rasterio = needs_rasterio()


def sentinel2(path: Path, names: list[str], first: int = 1) -> list[SceneBand]:
    return [SceneBand(str(path), first + number, "sentinel2", name) for number, name in enumerate(names)]


def test_bands_of_several_files_are_one_scene(tmp_path: Path) -> None:
    dn = pixels(20, 30, 3)
    one = write_geotiff(tmp_path / "one.tif", dn[:2], ("B4", "B2"))
    other = write_geotiff(tmp_path / "other.tif", dn[2:], None)
    named = band_names([str(one), str(other)], ["B4", "-", "B3"])
    assert named == [(str(one), 1, "B4"), (str(other), 1, "B3")]
    scene = open_scene([SceneBand(path, index, "sentinel2", name) for path, index, name in named])
    assert scene.names == {"sentinel2": ["B4", "B3"]}
    with scene.opened() as reader:
        found = reader.read(4, 6, 10, 12)["sentinel2"]
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, dn[[0, 2], 4:14, 6:18])


def test_datasets_are_kept_apart(tmp_path: Path) -> None:
    height = np.full((1, 8, 8), -5, np.int16)
    # The file declares one of these marks.
    height[0, 0, :2] = -9999, -32768
    a = write_geotiff(tmp_path / "a.tif", height, None, nodata=-9999)
    b = write_geotiff(tmp_path / "b.tif", pixels(8, 8, 1), None)
    scene = open_scene([SceneBand(str(a), 1, "aster", "elevation"), *sentinel2(b, ["B2"])])
    with scene.opened() as reader:
        found = reader.read(0, 0, 8, 8)
    assert {name: (each.dtype.name, each.shape) for name, each in found.items()} == {
        "aster": ("float32", (1, 8, 8)),
        "sentinel2": ("uint16", (1, 8, 8)),
    }
    assert np.isnan(found["aster"][0, 0, :2]).all()
    assert (found["aster"].reshape(-1)[2:] == -5).all()


def test_beyond_its_end_a_scene_holds_no_data(tmp_path: Path) -> None:
    path = write_geotiff(tmp_path / "a.tif", pixels(10, 12, 1), None)
    with open_scene(sentinel2(path, ["B2"])).opened() as reader:
        found = reader.read(8, 8, 8, 8)["sentinel2"][0]
    assert (found[:2, :4] > 0).all()
    assert not found[2:].any()
    assert not found[:, 4:].any()


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.int16])
def test_the_no_data_value_of_a_file_is_no_data(dtype: type[np.generic], tmp_path: Path) -> None:
    dn = pixels(8, 8, 1).astype(dtype)
    dn[0, 2, 3] = 4000
    path = write_geotiff(tmp_path / "a.tif", dn, None, nodata=4000)
    with open_scene(sentinel2(path, ["B2"])).opened() as reader:
        found = reader.read(0, 0, 8, 8)["sentinel2"][0]
    assert found[2, 3] == 0 or np.isnan(found[2, 3])
    assert (np.delete(found.reshape(-1), 2 * 8 + 3) > 0).all()


def test_files_of_20_m_are_resampled_only_when_asked(tmp_path: Path) -> None:
    fine = np.arange(400, dtype=np.uint16).reshape(1, 20, 20) + 1
    a = write_geotiff(tmp_path / "a.tif", fine, None)
    coarse = np.arange(100, dtype=np.uint16).reshape(1, 10, 10) + 1
    b = write_geotiff(tmp_path / "b.tif", coarse, None, transform=(20.0, 0.0, 5e5, 0.0, -20.0, 5e6))
    bands = [*sentinel2(a, ["B2"]), *sentinel2(b, ["B11"])]
    with pytest.raises(InputError, match=r"b\.tif: its pixels measure 20 x 20 m"):
        open_scene(bands)
    scene = open_scene(bands, "nearest")
    with scene.opened() as reader:
        found = reader.read(0, 0, 20, 20)["sentinel2"]
    np.testing.assert_array_equal(found[0], fine[0])
    np.testing.assert_array_equal(found[1], coarse[0].repeat(2, 0).repeat(2, 1))
    # The first file decides, also where it is the coarse one.
    other = open_scene(bands[::-1], "nearest")
    assert (other.grid.height, other.grid.width, other.grid.transform[0]) == (20, 20, 10)


def test_class_codes_are_never_mixed_by_resampling(tmp_path: Path) -> None:
    codes = np.tile(np.array([[10, 80], [80, 10]], np.uint8), (5, 5))[None]
    path = write_geotiff(tmp_path / "a.tif", codes, None, transform=(20.0, 0.0, 5e5, 0.0, -20.0, 5e6))
    scene = open_scene([SceneBand(str(path), 1, "esa_worldcover", "class")], "bilinear")
    with scene.opened() as reader:
        found = reader.read(0, 0, scene.grid.height, scene.grid.width)["esa_worldcover"]
    assert found.dtype == np.uint8
    assert set(np.unique(found).tolist()) <= {0, 10, 80}


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.float32])
@pytest.mark.parametrize("how", ["nearest", "bilinear", "average"])
def test_ground_outside_of_a_resampled_file_is_no_data(how: str, dtype: type[np.generic], tmp_path: Path) -> None:
    a = write_geotiff(tmp_path / "a.tif", pixels(20, 20, 1), None)
    height = np.full((1, 5, 5), 300).astype(dtype)
    b = write_geotiff(tmp_path / "b.tif", height, None, transform=(20.0, 0.0, 5e5, 0.0, -20.0, 5e6), nodata=None)
    scene = open_scene([*sentinel2(a, ["B2"]), SceneBand(str(b), 1, "aster", "elevation")], how)
    with scene.opened() as reader:
        found = reader.read(0, 0, 20, 20)["aster"][0]
    assert (found[:10, :10] == 300).all()
    assert np.isnan(found[11:]).all()
    assert np.isnan(found[:, 11:]).all()


def test_zeros_of_sentinel2_are_not_mixed_into_their_neighbours(tmp_path: Path) -> None:
    """One file holds Sentinel-2 and heights: 0 is no data in the one, and sea level in the other."""
    values = np.full((2, 10, 10), 2000, np.int16)
    values[:, :, 5:] = 0
    path = write_geotiff(tmp_path / "a.tif", values, None, transform=(20.0, 0.0, 5e5, 0.0, -20.0, 5e6), nodata=None)
    scene = open_scene([*sentinel2(path, ["B2"]), SceneBand(str(path), 2, "aster", "elevation")], "bilinear")
    with scene.opened() as reader:
        found = reader.read(0, 0, scene.grid.height, scene.grid.width)
    dn = found["sentinel2"]
    assert set(np.unique(dn[np.isfinite(dn)]).tolist()) <= {0, 2000}
    assert (dn[0, :, :10] == 2000).all()
    assert np.isfinite(found["aster"]).all()
    assert (found["aster"][0, :, 15:] == 0).all()


def test_a_no_data_value_that_float32_cannot_hold(tmp_path: Path) -> None:
    dn = pixels(8, 8, 1).astype(np.float64)
    dn[0, 2, 3] = 1e300
    path = write_geotiff(tmp_path / "a.tif", dn, None, nodata=1e300)
    with open_scene(sentinel2(path, ["B2"])).opened() as reader:
        found = reader.read(0, 0, 8, 8)["sentinel2"][0]
    assert np.argwhere(np.isnan(found)).tolist() == [[2, 3]]


def test_numbers_that_are_to_be_scaled_are_refused(tmp_path: Path) -> None:
    path = write_geotiff(tmp_path / "a.tif", pixels(8, 8, 2), None)
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets = (1, 1e-4), (0, -0.1)
    with pytest.raises(InputError, match=r"a\.tif: band 2 declares scale 0\.0001 and offset -0\.1, which are not"):
        open_scene(sentinel2(path, ["B2", "B3"]))
    open_scene(sentinel2(path, ["B2"]))


def test_pixels_of_a_degree_are_not_resampled(tmp_path: Path) -> None:
    path = write_geotiff(
        tmp_path / "a.tif", pixels(20, 30, 1), None, crs="EPSG:4326", transform=(1.0, 0.0, 10.0, 0.0, -1.0, 50.0)
    )
    with pytest.raises(InputError, match=r"a\.tif: its pixels measure .* m on the ground.* of at most 1000 m first"):
        open_scene(sentinel2(path, ["B2"]), "nearest")


def test_only_geotiffs_are_opened(tmp_path: Path) -> None:
    """Other drivers would follow names and addresses that a file holds."""
    (tmp_path / "a.tif").write_text('<VRTDataset rasterXSize="1" rasterYSize="1"/>')
    for name in ("a.tif", "absent.tif", "/vsicurl/http://localhost/a.tif"):
        with pytest.raises(InputError, match=r"is no GeoTIFF|does not exist"):
            band_names([str(tmp_path / name)], None)
