"""A small shard set with all labels that probes need, whose classes and heights can be seen in its images."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmae.data.shards.index_json import DatasetInfo
from tests.support.scenes import STATS
from tests.support.tiny_sets import write_set

SITES = 24
TILES = 96
SIDE = 16
DATASETS = MappingProxyType(
    {
        "sentinel2": DatasetInfo(np.dtype("<u2"), (13, SIDE, SIDE)),
        "aster": DatasetInfo(np.dtype("<i2"), (2, SIDE, SIDE)),
        "esa_worldcover": DatasetInfo(np.dtype("u1"), (1, SIDE, SIDE)),
        "dynamic_world": DatasetInfo(np.dtype("u1"), (1, SIDE, SIDE)),
        "canopy_height_eth": DatasetInfo(np.dtype("i1"), (2, SIDE, SIDE)),
    }
)


def site(row: int) -> int:
    return row % SITES


def biome(row: int) -> int:
    return site(row) % 3


def place(row: int) -> tuple[float, float]:
    """Sites are some 440 km apart, tiles of a site a kilometre."""
    return 4.0 * site(row) - 48 + 0.01 * (row // SITES), 10.0


def pixels(row: int, name: str, info: DatasetInfo) -> NDArray[Any]:
    """The left half of a tile is land cover 10, the right half 20, and one row of pixels has no label."""
    draw = np.random.default_rng([row, len(name)])
    noise = draw.normal(0, 40, info.shape)
    left = np.arange(SIDE) < SIDE // 2
    match name:
        case "sentinel2":
            bands = np.arange(13)[:, None, None]
            found = 1500 + 300 * biome(row) * (bands < 6) + 80 * (row // SITES) * (bands > 6) + 500 * left + noise
            # B10 is dark, and L2A has none.
            found[10] = 0 if row % 2 else 30
        case "aster":
            found = 200 + 40 * (row // SITES) + noise / 40
        case "esa_worldcover":
            found = np.broadcast_to(np.where(left, 10, 20), info.shape).copy()
            found[:, :1] = 0
        case "dynamic_world":
            found = np.broadcast_to(np.where(left, 1, 2), info.shape)
        case _:
            found = np.full(info.shape, 127)
    return np.asarray(found).astype(info.dtype)


def write_probe_set(folder: Path, datasets: Any = DATASETS, tiles: int = TILES, empty: Collection[int] = ()) -> Path:
    """A set of tiles.

    Args:
        empty: rows whose images hold no data.
    """

    def shown(row: int, name: str, info: DatasetInfo) -> NDArray[Any]:
        return pixels(row, name, info) * (row not in empty or name != "sentinel2")

    rows = list(range(tiles))
    splits = {"train": [row for row in rows if site(row) < 18], "val": [row for row in rows if site(row) >= 18]}
    write_set(folder, {**splits, "test": []}, 16, datasets, {row: place(row) for row in rows}, shown,
              {row: biome(row) for row in rows}, {row: 20200115 + 100 * (site(row) % 12) for row in rows},
              STATS)  # fmt: skip
    return folder
