"""Small GeoTIFFs and models for whole-scene tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mmae.config.schema import ModelConfig
from mmae.model.mmae import MultiMAE
from mmae.model.saved.saved_model import save_model

BANDS = ("B2", "B3", "B4", "B11", "B12")
CONFIG = ModelConfig(
    size="nano", in_domains=("rgb", "depth", "sired"), out_domains=("rgb", "depth", "semseg"), input_size=32,
    num_encoded_tokens=6, decoder_dim=32, decoder_depth=1, decoder_num_heads=4,
)  # fmt: skip
"""Windows of 4x4 patches."""

STATS = MappingProxyType(
    {
        "sentinel2_l1c": {"mean": [1500.0] * 10 + [30.0, 1500.0, 1500.0], "std": [800.0] * 13},
        "sentinel2_l2a": {"mean": [1500.0] * 10 + [0.0, 1500.0, 1500.0], "std": [800.0] * 10 + [0.0] + [800.0] * 2},
        "aster": {"mean": [300.0, 10.0], "std": [100.0, 5.0]},
    }
)


def needs_rasterio() -> Any:
    """The package, or a skip that says what is missing."""
    return pytest.importorskip("rasterio", reason="rasterio is missing: pip install 'mmae[geo]'")


def save_scene_model(folder: Path, config: ModelConfig = CONFIG) -> Path:
    model = MultiMAE(config)
    # Decoders begin as constants; these tell places apart.
    for parameter in model.parameters():
        parameter.data += 0.02
    save_model(folder, model, STATS)
    return folder


def pixels(height: int, width: int, bands: int = len(BANDS), seed: int = 0) -> NDArray[np.uint16]:
    """Digital numbers (bands, height, width), all of them data."""
    draw = np.random.default_rng(seed)
    return draw.integers(300, 3000, (bands, height, width)).astype(np.uint16)


def write_geotiff(
    path: Path,
    values_CHW: NDArray[Any],
    names: Sequence[str] | None = BANDS,
    crs: str | None = "EPSG:32632",
    transform: Sequence[float] = (10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0),
    nodata: float | None = 0,
) -> Path:
    from affine import Affine

    count, height, width = values_CHW.shape
    profile = {"driver": "GTiff", "height": height, "width": width, "count": count, "dtype": values_CHW.dtype.name}
    with needs_rasterio().open(path, "w", **profile, crs=crs, transform=Affine(*transform), nodata=nodata) as file:
        file.write(values_CHW)
        for number, name in enumerate(names or ()):
            file.set_band_description(number + 1, name)
    return path


def read_geotiff(path: Path) -> NDArray[Any]:
    with needs_rasterio().open(path) as file:
        found: NDArray[Any] = file.read()
    return found
