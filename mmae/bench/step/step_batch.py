"""A micro-batch of made-up tiles of MMEarth's size. The cost of a step does not depend on what tiles show."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import torch

from mmae.draws import tile_keys
from mmae.modalities import MODALITIES
from mmae.types import Batch

TILE_SIDE: Final = 64

_DATASETS: Final = MappingProxyType(
    {
        "sentinel2": (13, np.uint16),
        "aster": (2, np.int16),
        "sentinel1": (8, np.float32),
        "canopy_height_eth": (2, np.int8),
        "esa_worldcover": (1, np.uint8),
        "dynamic_world": (1, np.uint8),
    }
)


def made_up_batch(domains: Sequence[str], size: int) -> Batch:
    """`size` tiles that hold data everywhere, in the stored dtypes."""
    draw = np.random.default_rng(0)
    rows = np.arange(size, dtype=np.int64)
    datasets = {MODALITIES[name].dataset: MODALITIES[name].class_codes for name in domains}
    pixels = {}
    for name, codes in datasets.items():
        bands, dtype = _DATASETS[name]
        shape = (size, bands, TILE_SIDE, TILE_SIDE)
        values = draw.choice(codes, shape) if codes else draw.integers(1, 100, shape)
        pixels[name] = torch.from_numpy(values.astype(dtype))
    return Batch(
        pixels=pixels,
        level_B=torch.zeros(size, dtype=torch.uint8),
        row_B=torch.from_numpy(rows),
        key_B=torch.from_numpy(tile_keys(0, 0, rows)),
        real_B=torch.ones(size, dtype=torch.bool),
    )


def made_up_band_stats() -> dict[str, Any]:
    """Statistics for the tiles of `made_up_batch`, in the layout of MMEarth's file."""
    names = {"sentinel2_l1c": 13, "sentinel2_l2a": 13, "aster": 2, "sentinel1": 8, "canopy_height_eth": 2}
    return {
        name: {"mean": [50.0] * bands, "std": [30.0] * bands, "min": [1.0] * bands, "max": [99.0] * bands}
        for name, bands in names.items()
    }
