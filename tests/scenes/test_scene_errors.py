"""Bad input to whole-scene commands: one line each, status 2, and nothing half-written."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mmae.cli import main
from tests.support.full_disk import REASON, files_up_to
from tests.support.scenes import needs_rasterio, pixels, save_scene_model, write_geotiff

needs_rasterio()

Make = Callable[[Path], list[str]]
"""Writes files into a folder, and returns the command's words after the model."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_scene_model(tmp_path_factory.mktemp("models") / "model")


def one(folder: Path, *words: str, **how: object) -> list[str]:
    write_geotiff(folder / "a.tif", pixels(40, 48), **how)  # type: ignore[arg-type]
    return ["a.tif", "out.tif", "--level", "l2a", *words]


def no_crs(folder: Path) -> list[str]:
    return one(folder, crs=None)


def rotated(folder: Path) -> list[str]:
    return one(folder, transform=(9.0, 3.0, 5e5, 3.0, -9.0, 5e6))


def south_up(folder: Path) -> list[str]:
    return one(folder, transform=(10.0, 0.0, 5e5, 0.0, 10.0, 5e6))


def twenty_metres(folder: Path) -> list[str]:
    return one(folder, transform=(20.0, 0.0, 5e5, 0.0, -20.0, 5e6))


def degrees(folder: Path) -> list[str]:
    return one(folder, crs="EPSG:4326", transform=(9e-5, 0.0, 10.0, 0.0, -9e-5, 50.0))


def other_grid(folder: Path) -> list[str]:
    write_geotiff(folder / "b.tif", pixels(40, 48, 2), None, transform=(10.0, 0.0, 5e5 + 10, 0.0, -10.0, 5e6))
    return ["b.tif", *one(folder, "--bands", "B11,B12,B2,B3,B4,-,-")]


def band_missing(folder: Path) -> list[str]:
    return one(folder, "--bands", "B2,B3,-,B11,-")


def too_few_names(folder: Path) -> list[str]:
    return one(folder, "--bands", "B2,B3")


def unnamed(folder: Path) -> list[str]:
    return one(folder, names=None)


def unknown_band(folder: Path) -> list[str]:
    return one(folder, "--bands", "B2,B3,B4,red,B12")


def only_other_bands(folder: Path) -> list[str]:
    return one(folder, "--bands", "B1,B5,B9,B10,-")


def too_small(folder: Path) -> list[str]:
    write_geotiff(folder / "a.tif", pixels(24, 48))
    return ["a.tif", "out.tif", "--level", "l2a"]


def mixed_dtypes(folder: Path) -> list[str]:
    write_geotiff(folder / "b.tif", pixels(40, 48, 2).astype(np.float32), None)
    return ["b.tif", *one(folder, "--bands", "B11,B12,B2,B3,B4,-,-")]


def bytes_not_numbers(folder: Path) -> list[str]:
    write_geotiff(folder / "a.tif", (pixels(40, 48) // 12).astype(np.uint8))
    return ["a.tif", "out.tif", "--level", "l2a"]


def reflectance(folder: Path) -> list[str]:
    write_geotiff(folder / "a.tif", (pixels(40, 48) / 1e4).astype(np.float32))
    return ["a.tif", "out.tif", "--level", "l2a"]


def no_data(folder: Path) -> list[str]:
    write_geotiff(folder / "a.tif", pixels(40, 48) * 0)
    return ["a.tif", "out.tif", "--level", "l2a"]


def no_data_in_many_windows(folder: Path) -> list[str]:
    write_geotiff(folder / "a.tif", pixels(320, 320) * 0)
    return ["a.tif", "out.tif", "--level", "l2a"]


def reflectance_in_a_corner(folder: Path) -> list[str]:
    values = (pixels(320, 320) / 1e4).astype(np.float32)
    values[:, 32:] = values[:, :, 32:] = 0
    write_geotiff(folder / "a.tif", values)
    return ["a.tif", "out.tif", "--level", "l2a"]


def no_level(folder: Path) -> list[str]:
    return one(folder)[:2]


def there_already(folder: Path) -> list[str]:
    (folder / "out.tif").write_bytes(b"mine")
    return one(folder)


def other_suffix(folder: Path) -> list[str]:
    words = one(folder)
    words[1] = "out.parquet"
    return words


def no_tiff(folder: Path) -> list[str]:
    (folder / "a.tif").write_bytes(b"II no tiff")
    return ["a.tif", "out.tif", "--level", "l2a"]


def no_folder(folder: Path) -> list[str]:
    words = one(folder)
    words[1] = "a.tif/out.tif"
    return words


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (no_crs, "it has no CRS"),
        (rotated, "rotated or not north up"),
        (south_up, "rotated or not north up"),
        (twenty_metres, r"its pixels measure 20 x 20 m .* 10 m: say --resample"),
        (degrees, r"its pixels measure 6\.4\d x 10 m"),
        (other_grid, r"its grid .* is not that of .*say --resample"),
        (band_missing, r"complete no modality of the model; rgb also needs B4 .*; sired also needs B12"),
        (too_few_names, "--bands names 2 bands, and 1 file has 5"),
        (unnamed, "band 1 has no name in the file: say --bands"),
        (unknown_band, "no band 'red'"),
        (only_other_bands, "the model takes none of the bands B1, B5, B9, B10"),
        (too_small, "the scene has 24x48 pixels, and a window 32x32: say --window 24"),
        (mixed_dtypes, "is uint16, and .* is float32: bring all bands to one dtype"),
        (bytes_not_numbers, "is uint8, which cannot hold reflectance x 10000"),
        (reflectance, r"scale: .*say --units reflectance, .*use --no-unit-check"),
        (reflectance_in_a_corner, "say --units reflectance"),
        (no_data, "a.tif: the scene holds no data"),
        (no_data_in_many_windows, "a.tif: the scene holds no data"),
        (no_level, r"level is missing: .*say --level l1c \(top of atmosphere\) or --level l2a \(surface\)"),
        (lambda folder: one(folder, "--bands=-,-,-,-,-"), "--bands skips all bands"),
        (lambda folder: one(folder, "--offset", "nan"), "--offset nan: give a number"),
        (lambda folder: one(folder, "--offset=-inf"), "--offset -inf: give a number"),
        (lambda folder: one(folder, "--split", "val"), "--split is for shards"),
        (lambda folder: one(folder, "--pooling", "mean"), "--pooling is for shards"),
        (lambda folder: one(folder, "--cache-dir", "x"), "--cache-dir is for shards"),
        (there_already, "out.tif exists already"),
        (other_suffix, "a scene's vectors are a GeoTIFF"),
        (no_tiff, "a.tif: is no GeoTIFF"),
        (no_folder, "cannot be written|Not a directory"),
        (lambda folder: one(folder, "--overlap", "12"), "--overlap 12: give a multiple of 8 from 0 to 24"),
        (lambda folder: one(folder, "--overlap", "32"), "--overlap 32: give a multiple of 8 from 0 to 24"),
        (lambda folder: one(folder, "--window", "20"), "--window 20: windows are whole patches"),
        (lambda folder: one(folder, "--window", "0"), "--window 0: windows are whole patches"),
        (lambda folder: one(folder, "--window=-8"), "--window -8: windows are whole patches"),
        (lambda folder: one(folder, "--batch", "0"), "--batch 0"),
        (lambda folder: one(folder, "--processes", "0"), "--processes 0"),
        (lambda folder: one(folder, "--processes", "999"), "--processes 999"),
        (lambda folder: one(folder, "--units", "percent"), "units 'percent' are not known"),
        (lambda folder: ["absent.tif", "out.tif"], "absent.tif does not exist"),
    ],
)
def test_one_line_says_what_is_wrong(
    make: Make,
    message: str,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    words = make(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert main(["embed", str(model), *words]) == 2
    err = capsys.readouterr().err
    assert re.search(message, err), err
    assert err.count("\n") == 1
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ("slope", "no such decoder"),
        ("norm_rgb", "say rgb"),
        ("semseg,semseg", "names semseg twice"),
        ("", "no such decoder"),
    ],
)
def test_outputs_that_cannot_be_predicted(
    outputs: str, message: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = write_geotiff(tmp_path / "a.tif", pixels(40, 40))
    words = ["predict", str(model), str(scene), str(tmp_path / "out"), "--level", "l2a", "--outputs", outputs]
    assert main(words) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [scene]


def test_reflectance_is_of_a_level(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    height = np.full((1, 40, 40), 300, np.int16)
    scene = write_geotiff(tmp_path / "a.tif", height, ("aster:elevation",), nodata=-9999)
    words = ["predict", str(model), str(scene), str(tmp_path / "out"), "--outputs", "rgb"]
    assert main(words) == 2
    assert "--outputs rgb: it is of a Sentinel-2 level: say --level l1c" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [scene]
    assert main([*words, "--level", "l2a"]) == 0


def test_what_is_predicted_is_not_all_that_is_given(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = write_geotiff(tmp_path / "a.tif", pixels(40, 40, 3), ("B2", "B3", "B4"))
    words = ["predict", str(model), str(scene), str(tmp_path / "out"), "--level", "l2a", "--outputs", "rgb"]
    assert main(words) == 2
    assert "nothing but rgb itself is given" in capsys.readouterr().err


def test_a_full_disk(model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    scene = write_geotiff(tmp_path / "a.tif", pixels(80, 80))
    words = ["embed", str(model), str(scene), str(tmp_path / "out.tif"), "--level", "l2a"]
    for limit in (10_000, 40_000, 70_000):
        with files_up_to(limit):
            assert main(words) == 2
        err = capfd.readouterr().err
        assert f"cannot be written ({REASON}): make room" in err, err
        assert err.count("\n") == 1, err
        assert not (tmp_path / "out.tif").exists()
    assert main(words) == 0


def test_a_disk_that_is_too_small(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = write_geotiff(tmp_path / "a.tif", pixels(80, 80))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    assert main(["embed", str(model), str(scene), str(tmp_path / "out.tif"), "--level", "l2a"]) == 2
    assert "are free and" in capsys.readouterr().err


def test_a_damaged_scene(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = write_geotiff(tmp_path / "a.tif", pixels(80, 80))
    scene.write_bytes(scene.read_bytes()[:20_000])
    assert main(["embed", str(model), str(scene), str(tmp_path / "out.tif"), "--level", "l2a"]) == 2
    err = capsys.readouterr().err
    assert "a.tif" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out.tif").exists()
