"""A small model with real statistics, and plausible tiles for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mmae.inference.raw_encoder import RawEncoder, load_encoder
from mmae.model.mmae import MultiMAE
from mmae.model.saved.saved_model import save_model
from tests.support.raw_encoder_case import CONFIG, STATS


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
