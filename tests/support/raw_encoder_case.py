"""A small model for raw arrays: its configuration, and statistics like those of MMEarth."""

from __future__ import annotations

from typing import Any

from mmae.config.schema import ModelConfig
from mmae.modalities import PUBLISHED

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
