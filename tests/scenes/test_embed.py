"""Scenes through the real command, beside the encoder's own answer for single windows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import mmae
from mmae.cli import main
from mmae.scenes.files import rasters
from tests.support.scenes import (
    BANDS,
    needs_rasterio,
    pixels,
    read_geotiff,
    save_scene_model,
    write_geotiff,
)

rasterio = needs_rasterio()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_scene_model(tmp_path_factory.mktemp("models") / "model")


@pytest.fixture
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Units of 16 rows of patches in narrow panels: small scenes then have several."""
    monkeypatch.setattr(rasters, "_MOST_BYTES", 1)
    monkeypatch.setattr(rasters, "_LEAST_COLUMNS", 5)


def embed(model: Path, source: Path, out: Path, *words: str) -> int:
    return main(["embed", str(model), str(source), str(out), "--level", "l2a", *words])


def one_shot(model: Path, dn_CHW: NDArray[Any]) -> NDArray[np.float32]:
    """The mean over modalities of the encoder's maps of one image, (D, h, w); NaN where nothing is valid."""
    found = mmae.load_encoder(model)({"sentinel2": dn_CHW[None]}, bands={"sentinel2": list(BANDS)}, level="l2a")
    total = sum(np.where(found.valid[name][0, ..., None], tokens[0], 0) for name, tokens in found.maps.items())
    count = sum(found.valid[name][0, ..., None].int() for name in found.maps)
    with np.errstate(invalid="ignore"):
        vectors: NDArray[np.float32] = (np.asarray(total) / np.asarray(count)).transpose(2, 0, 1)
    return vectors


def test_a_scene_of_one_window_is_what_the_encoder_says(model: Path, tmp_path: Path) -> None:
    dn = pixels(32, 32)
    dn[:, :8, :16] = 0
    assert embed(model, write_geotiff(tmp_path / "scene.tif", dn), tmp_path / "out.tif") == 0
    found, expected = read_geotiff(tmp_path / "out.tif"), one_shot(model, dn)
    assert found.shape == (64, 4, 4)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.isnan(found[:, 0, :2]).all()
    assert not np.isnan(found[:, 1:]).any()


def test_away_from_seams_a_scene_is_what_single_windows_are(model: Path, tmp_path: Path) -> None:
    dn = pixels(80, 56)
    assert embed(model, write_geotiff(tmp_path / "scene.tif", dn), tmp_path / "out.tif", "--overlap", "8") == 0
    found = read_geotiff(tmp_path / "out.tif")
    assert found.shape == (64, 10, 7)
    first = one_shot(model, dn[:, :32, :32])
    np.testing.assert_allclose(found[:, :3, :3], first[:, :3, :3], atol=1e-5)
    last = one_shot(model, dn[:, 48:80, 24:56])
    np.testing.assert_allclose(found[:, 7:, 4:], last[:, 1:, 1:], atol=1e-5)
    # Where two windows lie, the raster is between them.
    second = one_shot(model, dn[:, 24:56, :32])
    both = np.stack([first[:, 3, :3], second[:, 0, :3]])
    assert (found[:, 3, :3] >= both.min(0) - 1e-5).all()
    assert (found[:, 3, :3] <= both.max(0) + 1e-5).all()
    assert not np.allclose(found[:, 3, :3], both[0], atol=1e-3)


def test_a_larger_window_is_one_shot_of_a_scene_that_fits(model: Path, tmp_path: Path) -> None:
    dn = pixels(64, 64)
    scene = write_geotiff(tmp_path / "scene.tif", dn)
    assert embed(model, scene, tmp_path / "out.tif", "--window", "64") == 0
    np.testing.assert_allclose(read_geotiff(tmp_path / "out.tif"), one_shot(model, dn), atol=1e-5)


def test_it_lies_where_the_scene_lies(model: Path, tmp_path: Path) -> None:
    scene = write_geotiff(tmp_path / "scene.tif", pixels(45, 70), crs="EPSG:3035")
    assert embed(model, scene, tmp_path / "out.tif") == 0
    with rasterio.open(tmp_path / "out.tif") as file:
        assert file.crs == rasterio.crs.CRS.from_epsg(3035)
        assert tuple(file.transform)[:6] == (80.0, 0.0, 500_000.0, 0.0, -80.0, 5_000_000.0)
        assert (file.height, file.width) == (6, 9)
        assert np.isnan(file.nodata)
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.tags()["mmae_level"] == "l2a"
    # The last row of patches holds five rows of pixels, the last column six: they are data.
    assert not np.isnan(read_geotiff(tmp_path / "out.tif")).any()
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


@pytest.mark.usefixtures("few_rows")
def test_the_result_does_not_depend_on_units_or_batches(model: Path, tmp_path: Path) -> None:
    dn = pixels(700, 100)
    dn[:, 300:420, 10:90] = 0
    scene = write_geotiff(tmp_path / "scene.tif", dn)
    assert embed(model, scene, tmp_path / "parts.tif", "--batch", "3") == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rasters, "_MOST_BYTES", 1 << 28)
        assert embed(model, scene, tmp_path / "whole.tif") == 0
    parts, whole = read_geotiff(tmp_path / "parts.tif"), read_geotiff(tmp_path / "whole.tif")
    np.testing.assert_allclose(parts, whole, atol=2e-5)
    assert np.isnan(whole).any()


@pytest.mark.usefixtures("few_rows")
def test_an_interrupted_start_goes_on_where_it_was(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmae.scenes.files.partial_output import PartialOutput

    scene = write_geotiff(tmp_path / "scene.tif", pixels(700, 60))
    assert embed(model, scene, tmp_path / "whole.tif") == 0
    save, saved = PartialOutput.save, list[str]()

    def interrupted(self: PartialOutput, name: str, arrays: Any) -> None:
        if len(saved) == 2:
            raise KeyboardInterrupt
        save(self, name, arrays)
        saved.append(name)

    monkeypatch.setattr(PartialOutput, "save", interrupted)
    assert embed(model, scene, tmp_path / "out.tif") == 130
    assert not (tmp_path / "out.tif").exists()
    partial = tmp_path / "out.tif.partial"
    assert {path.stem for path in partial.glob("*.npz")} == set(saved)
    assert json.loads((partial / "job.json").read_text())["level"] == "l2a"
    again: list[str] = []

    def noted(self: PartialOutput, name: str, arrays: Any) -> None:
        again.append(name)
        save(self, name, arrays)

    monkeypatch.setattr(PartialOutput, "save", noted)
    assert embed(model, scene, tmp_path / "out.tif") == 0
    assert len(again) == 4
    assert not set(again) & set(saved)
    np.testing.assert_allclose(read_geotiff(tmp_path / "out.tif"), read_geotiff(tmp_path / "whole.tif"), atol=1e-5)
    assert not partial.exists()


def test_the_beginning_of_another_result_is_not_continued(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = write_geotiff(tmp_path / "scene.tif", pixels(40, 40))
    (tmp_path / "out.tif.partial").mkdir()
    (tmp_path / "out.tif.partial" / "job.json").write_text('{"level": "l1c"}')
    assert embed(model, scene, tmp_path / "out.tif") == 2
    assert "beginning of another result" in capsys.readouterr().err
