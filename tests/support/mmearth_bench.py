"""Writes made-up tasks in the layout of MMEarth-Bench: an HDF5 file and a split file a task."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

NO_DATA: Mapping[str, float] = {
    "Sentinel2": 65535, "Sentinel1": -9999, "ASTER_GDEM": -9999, "ETH_GCH": 255, "DynamicWorld": 9,
    "ESA_WorldCover": 11, "precipitation": -9999, "temperature": -9999, "biome": 14, "ecoregion": 846, "SCL": 0,
}  # fmt: skip
TASKS = ("biomass", "soil_nitrogen", "soil_organic_carbon", "soil_pH", "species")
SPECIES = 100


def write_bench(
    root: Path,
    name: str,
    tiles: int = 36,
    side: int = 16,
    missing: Mapping[int, list[str]] | None = None,
    unlabelled: tuple[int, ...] = (),
    sentinel1_bands: int = 8,
) -> Path:
    """A task's folder below the folder of the suite. The pixels say the label.

    Args:
        missing: row -> data sets that the tile lacks, as the files spell them (`esa_worldcover`).
        unlabelled: rows whose labels are no data.
        sentinel1_bands: 8, or 4 without HH and HV, of which there is no data here.
    """
    folder = root / name
    folder.mkdir(parents=True)
    draws = np.random.default_rng(1)
    value_N = draws.uniform(0, 1, tiles)
    noise = draws.normal(0, 0.02, (tiles, 1, side, side))
    shown_NHW = value_N[:, None, None] * np.ones((side, side)) if name != "biomass" else draws.uniform(
        0, 1, (tiles, 2, 2)
    ).repeat(side // 2, 1).repeat(side // 2, 2)  # fmt: skip
    bands = np.linspace(-1, 1, 12)[None, :, None, None]
    with h5py.File(folder / f"{name}.h5", "w") as file:
        shown = shown_NHW[:, None]
        _write(file, "Sentinel2", (900 * (1 + 0.5 * shown * bands + noise)).clip(1), np.uint16)
        radar = -12 + 3 * shown + np.arange(sentinel1_bands)[:, None, None]
        if sentinel1_bands == 8:
            radar[:, [2, 3, 6, 7]] = NO_DATA["Sentinel1"]
        _write(file, "Sentinel1", radar, np.float32)
        _write(file, "ASTER_GDEM", 500 + 300 * shown + np.zeros((1, 2, 1, 1)), np.float32)
        _write(file, "ETH_GCH", 10 + np.zeros((tiles, 2, side, side)), np.uint8)
        # Trees in both maps, whose classes are counted from 0.
        _write(file, "DynamicWorld", np.ones((tiles, 1, side, side)), np.uint8)
        _write(file, "ESA_WorldCover", np.zeros((tiles, 1, side, side)), np.uint8)
        file["geolocation"] = np.stack([np.linspace(-70, 60, tiles), np.linspace(-30, 50, tiles)], axis=1)
        lacking = [json.dumps((missing or {}).get(row, [])) for row in range(tiles)]
        file.create_dataset("missing_modalities", data=lacking, dtype=h5py.string_dtype())
        file.create_dataset(name, **_labels(name, value_N, shown_NHW, unlabelled))
    (root / "no_data_values.json").write_text(json.dumps(dict(NO_DATA)))
    if name == "species":
        (folder / "species_labels.json").write_text(json.dumps({f"species {at}": at for at in range(SPECIES)}))
    (folder / f"{name}_split_data.json").write_text(json.dumps(_splits(tiles)))
    return folder


def _write(file: h5py.File, name: str, values: Any, dtype: Any) -> None:
    file.create_dataset(name, data=np.asarray(values).astype(dtype), compression="gzip")


def _labels(name: str, value_N: Any, shown_NHW: Any, unlabelled: tuple[int, ...]) -> dict[str, Any]:
    if name == "species":
        # Some species live where the value is high, and the others where it is low.
        lists = [json.dumps([f"species {at}" for at in range(SPECIES) if (at % 2 == 0) == (value > 0.5) and at < 8])
                 for value in value_N]  # fmt: skip
        return {"data": lists, "dtype": h5py.string_dtype()}
    labels = (100 * shown_NHW if name == "biomass" else 5 + 10 * value_N[:, None]).astype(np.float32)
    labels[list(unlabelled)] = -9999 if name == "biomass" else np.nan
    return {"data": labels}


def _splits(tiles: int) -> dict[str, Any]:
    half = tiles // 2
    train = list(range(half))
    rest = list(range(half, tiles))
    third = len(rest) // 3
    return {
        "train_100%_indices": train, "train_50%_indices": train[::2], "train_5%_indices": train[:2],
        "val_indices": rest[:third], "random_test_indices": rest[third : 2 * third],
        "geographic_test_indices": rest[2 * third :],
    }  # fmt: skip
