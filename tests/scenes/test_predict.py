"""Predictions of scenes through the real command, beside the model's own forward pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import mmae
from mmae.cli import main
from mmae.types import MaskPlan
from tests.support.scenes import (
    BANDS,
    CONFIG,
    STATS,
    needs_rasterio,
    pixels,
    read_geotiff,
    save_scene_model,
    write_geotiff,
)

rasterio = needs_rasterio()
PLACES = CONFIG.tokens_per_modality


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_scene_model(tmp_path_factory.mktemp("models") / "model")


def predict(model: Path, scene: Path, out: Path, *words: str) -> int:
    return main(["predict", str(model), str(scene), str(out), "--level", "l2a", *words])


def forward(model: Path, dn_CHW: NDArray[Any], hidden: str = "") -> dict[str, NDArray[np.float32]]:
    """The decoders' images of one window by the training's own forward pass, output -> (C, H, W)."""
    encoder = mmae.load_encoder(model)
    inputs = encoder.inputs({"sentinel2": dn_CHW[None]}, bands={"sentinel2": list(BANDS)}, level="l2a")
    values = {**inputs.values, "depth": torch.zeros(1, 1, 32, 32)}
    keep = [
        CONFIG.in_domains.index(name) * PLACES + place
        for name in ("rgb", "sired")
        for place in range(PLACES)
        if name != hidden and inputs.token_valid[name][0, place]
    ]
    hidden_BN = torch.ones(1, CONFIG.num_tokens, dtype=torch.bool)
    hidden_BN[0, keep] = False
    plan = MaskPlan(torch.tensor([keep]), hidden_BN, torch.zeros(1, dtype=torch.int64))
    with torch.no_grad():
        patches = encoder.model(values, plan).patches
    images = {}
    for name, each in patches.items():
        side = each.shape[-1]
        grid = each[0].view(4, 4, -1, side, side).permute(2, 0, 3, 1, 4)
        images[name] = grid.reshape(-1, 4 * side, 4 * side).numpy()
    return images


def test_one_window_is_what_the_decoders_say(model: Path, tmp_path: Path) -> None:
    dn = pixels(32, 32)
    dn[:, :8, 8:24] = 0
    assert predict(model, write_geotiff(tmp_path / "a.tif", dn), tmp_path / "out", "--outputs", "semseg,depth") == 0
    expected = forward(model, dn)
    codes = np.array([10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 100])[expected["semseg"][:11].argmax(0)]
    codes[:2, 2:6] = 0
    found = read_geotiff(tmp_path / "out" / "semseg.tif")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found[0], codes)
    depth = read_geotiff(tmp_path / "out" / "depth.tif")
    assert depth.dtype == np.float32
    assert np.isnan(depth[0, :8, 8:24]).all()
    np.testing.assert_allclose(
        np.nan_to_num(depth[0]), np.where(codes.repeat(4, 0).repeat(4, 1) > 0, expected["depth"][0], 0), atol=1e-5
    )


def test_reflectance_comes_from_the_other_modalities(model: Path, tmp_path: Path) -> None:
    dn = pixels(32, 32)
    assert predict(model, write_geotiff(tmp_path / "a.tif", dn), tmp_path / "out", "--outputs", "rgb") == 0
    found = read_geotiff(tmp_path / "out" / "rgb.tif")
    mean, std = STATS["sentinel2_l2a"]["mean"][3], STATS["sentinel2_l2a"]["std"][3]
    expected = np.clip(forward(model, dn, hidden="rgb")["rgb"] * std + mean, 1, 65535)
    assert found.dtype == np.uint16
    np.testing.assert_allclose(found, expected, atol=0.6)
    # Other visible bands change nothing: they were hidden.
    dn[:3] = dn[:3][:, ::-1]
    assert predict(model, write_geotiff(tmp_path / "b.tif", dn), tmp_path / "b", "--outputs", "rgb") == 0
    np.testing.assert_array_equal(read_geotiff(tmp_path / "b" / "rgb.tif"), found)


def test_rasters_say_what_they_are_and_where(model: Path, tmp_path: Path) -> None:
    scene = write_geotiff(tmp_path / "a.tif", pixels(72, 100))
    assert predict(model, scene, tmp_path / "out", "--outputs", "semseg,depth,rgb") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "out"]
    for name, metres, bands in (
        ("semseg", 40, ("class",)),
        ("depth", 10, ("elevation",)),
        ("rgb", 10, ("B4", "B3", "B2")),
    ):
        with rasterio.open(tmp_path / "out" / f"{name}.tif") as file:
            assert file.crs == rasterio.crs.CRS.from_epsg(32632)
            assert tuple(file.transform)[:6] == (metres, 0, 5e5, 0, -metres, 5e6)
            assert file.descriptions == bands
            assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            tags = file.tags()
            if name == "semseg":
                # The colours of ESA's own product.
                assert file.colormap(1)[80][:3] == (0, 100, 200)
                assert file.colormap(1)[10][:3] == (0, 100, 0)
                assert (file.nodata, tags["units"]) == (0, "ESA WorldCover code")
            if name == "depth":
                assert "no height in metres" in tags["meaning"]


def test_a_window_with_data_of_hidden_modalities_only_is_no_data(model: Path, tmp_path: Path) -> None:
    dn = pixels(32, 32)
    dn[3:] = 0
    assert predict(model, write_geotiff(tmp_path / "a.tif", dn), tmp_path / "out", "--outputs", "rgb,semseg") == 0
    assert not read_geotiff(tmp_path / "out" / "rgb.tif").any()
    assert read_geotiff(tmp_path / "out" / "semseg.tif").all()
