"""A made-up scene and an encoder with initial weights: their speed is that of real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from mmae.config.schema import ModelConfig
from mmae.inference.process_model import devices_of
from mmae.model.mmae import MultiMAE
from mmae.model.saved.saved_model import save_model
from mmae.scenes.files.geo_extra import rasterio
from mmae.scenes.files.geotiffs import SceneBand, open_scene
from mmae.scenes.scene_job import SceneJob
from mmae.scenes.scene_options import batch_of, default_overlap
from mmae.scenes.windows.window_inputs import Numbers

_CONFIG: Final = ModelConfig()
WINDOW: Final = _CONFIG.image_hw[0]
_BANDS: Final = ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12")
_MEAN: Final = 1500.0
_DEVIATION: Final = 800.0
_CRS: Final = "EPSG:32632"
_CORNER: Final = (500_000.0, 5_000_000.0)


def make_job(folder: Path, size: str, pixels: int, batch: int | None) -> SceneJob:
    """Write model and scene into a folder, and say how the scene is embedded: as `mmae embed` does by default."""
    config = ModelConfig(size=size)
    entry = {"mean": [_MEAN] * 13, "std": [_DEVIATION] * 13}
    save_model(folder / "model", MultiMAE(config), {"sentinel2_l2a": entry})
    scene = folder / "scene.tif"
    _write_scene(scene, pixels)
    bands = [SceneBand(str(scene), number + 1, "sentinel2", name) for number, name in enumerate(_BANDS)]
    devices = devices_of(None)[:1]
    return SceneJob(
        model=str(folder / "model"),
        trust=False,
        scene=open_scene(bands),
        numbers=Numbers("l2a", None, 0.0, False),
        outputs=None,
        window_hw=config.image_hw,
        overlap=default_overlap(config),
        batch=batch_of(batch, devices),
        devices=devices,
    )


def _write_scene(path: Path, pixels: int) -> None:
    """Digital numbers without a hole, tiled and compressed as products are."""
    from affine import Affine

    draw = np.random.default_rng(0)
    profile = {"driver": "GTiff", "count": len(_BANDS), "dtype": "uint16", "crs": _CRS, "nodata": 0}
    shape = {"height": pixels, "width": pixels, "transform": Affine(10, 0, _CORNER[0], 0, -10, _CORNER[1])}
    with rasterio().open(path, "w", **profile, **shape, tiled=True, compress="deflate") as file:
        for number in range(len(_BANDS)):
            noise = draw.normal(_MEAN, _DEVIATION, (pixels, pixels))
            file.write(noise.clip(1, 10_000).astype(np.uint16), number + 1)
