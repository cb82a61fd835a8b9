"""Tiny data sets in MMEarth's layout."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np


@dataclass
class MMEarth:
    """The content of a data set; change what a test is about, then `write`."""

    rows: int = 12
    size: int = 8
    arrays: dict[str, Any] = field(default_factory=dict)
    metadata: Any = None
    splits: dict[str, Any] = field(default_factory=dict)
    tile_info: dict[str, Any] = field(default_factory=dict)
    band_stats: dict[str, Any] = field(default_factory=dict)
    chunked: bool = True

    def __post_init__(self) -> None:
        draw = np.random.default_rng(0)
        rows, size = self.rows, self.size
        self.arrays = {
            "sentinel2": draw.integers(0, 3000, (rows, 13, size, size)).astype(np.uint16),
            "aster": draw.integers(-50, 900, (rows, 2, size, size)).astype(np.int16),
            "esa_worldcover": np.full((rows, 1, size, size), 10, np.uint8),
            "sentinel1": draw.normal(-12, 4, (rows, 8, size, size)).astype(np.float32),
            "era5": np.full((rows, 12), np.nan, np.float32),
            "month": draw.integers(-3, 3, (rows, 2)).astype(np.int32),
        }
        self.arrays["sentinel1"][:, 4:] = -np.inf
        self.arrays["esa_worldcover"][::2, 0, 0, 0] = 80
        levels = ["l1c" if row % 2 == 0 else "l2a" for row in range(rows)]
        ids = [f"tile_{row // 2}_{level}" for row, level in enumerate(levels)]
        self.metadata = np.array(list(zip(ids, levels, strict=True)), [("tile_id", "S100"), ("S2_type", "S10")])
        half = rows // 2
        self.splits = {"train": list(range(half)), "val": list(range(half, rows)), "test": []}
        # Both levels of a place stand side by side; places are a degree apart.
        self.tile_info = {
            name: {"S2_DATE": "2020-06-30", "S2_type": level, "lat": float(row // 2), "lon": 10.0, "biome": row % 14}
            for row, (name, level) in enumerate(zip(ids, levels, strict=True))
        }
        entry = {"mean": [1000.0] * 13, "std": [500.0] * 12 + [0.0]}
        self.band_stats = {"sentinel2_l1c": entry, "sentinel2_l2a": entry}

    def write(self, folder: Path, name: str = "data") -> Path:
        """Write the four files; returns the HDF5 file."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.h5"
        with h5py.File(path, "w") as file:
            for key, values in {**self.arrays, "metadata": self.metadata}.items():
                stored = {"chunks": (1, *values.shape[1:]), "compression": "gzip"} if self.chunked else {}
                file.create_dataset(key, data=values, **stored)
        for kind in ("splits", "tile_info", "band_stats"):
            (folder / f"{name}_{kind}.json").write_text(json.dumps(getattr(self, kind)))
        return path
