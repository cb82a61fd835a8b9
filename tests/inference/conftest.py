"""A small model with real statistics, and plausible tiles for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mmae.config.schema import ModelConfig
from mmae.inference.raw_encoder import RawEncoder, load_encoder
from mmae.modalities import PUBLISHED
from mmae.model.mmae import MultiMAE
from mmae.model.saved.saved_model import save_model

MEAN = [1865.0, 1657, 1561, 1634, 1847, 2422, 2706, 2908, 2621, 975, 39, 2154, 1465]
STD = [1520.0, 1575, 1474, 1735, 1697, 1585, 1578, 1560, 1519, 823, 62, 1312, 1140]
STATS: dict[str, Any] = {
    "sentinel2_l1c": {"mean": MEAN, "std": STD},
    "sentinel2_l2a": {"mean": [*MEAN[:10], 0, *MEAN[11:]], "std": [*STD[:10], 0, *STD[11:]]},
    "sentinel1": {"mean": [-12.0] * 8, "std": [5.0] * 8},
    "aster": {"mean": [700.0, 5.0], "std": [900.0, 6.0]},
}
CONFIG = ModelConfig(size="nano", in_domains=(*PUBLISHED, "sentinel1"), decoder_dim=16, decoder_num_heads=2,
                     decoder_depth=1)  # fmt: skip


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> RawEncoder:
    folder = tmp_path_factory.mktemp("encoder") / "model"
    save_model(folder, MultiMAE(CONFIG), STATS)
    return load_encoder(folder)


@pytest.fixture(scope="session")
def land() -> Callable[..., NDArray[np.uint16]]:
    """Makes plausible Sentinel-2 tiles, uint16 (T, 13, 16, 24), bright and dark ones."""

    def make(level: str = "l2a", tiles: int = 3) -> NDArray[np.uint16]:
        draw = np.random.default_rng(0)
        light = draw.uniform(0.15, 1.6, (tiles, 1, 16, 24)) * draw.uniform(0.5, 1.2, (tiles, 1, 1, 1))
        mean = np.array(STATS[f"sentinel2_{level}"]["mean"])[:, None, None]
        return np.where(mean > 0, np.maximum(mean * light, 1), 0).astype(np.uint16)

    return make


@pytest.fixture(scope="session")
def mini_set(shared: Path) -> tuple[Path, dict[str, Any]]:
    """A real MMEarth file, and its band statistics."""
    stem = f"{shared}/mini_mmearth/data_1M_v001_64/data_1M_v001_64"
    return Path(f"{stem}.h5"), json.loads(Path(f"{stem}_band_stats.json").read_text())
