"""Folders of small GeoTIFFs with labels: the pixels say the class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.support.scenes import write_geotiff

BANDS = ("B2", "B3", "B4", "B5", "B6", "B7", "thermal")
SIDE = 16


def write_images(
    folder: Path,
    names: Sequence[str],
    bands: Sequence[str] | None = BANDS,
    side: int = SIDE,
    dtype: str = "uint16",
    classes: int = 2,
) -> Path:
    """Images that lie 2 km apart in a row.

    Image k is of class k modulo `classes`, and the right half of it of the next class.

    Args:
        names: keys of images, such as `train/a`.
    """
    for number, name in enumerate(names):
        path = folder / f"{name}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        draws = np.random.default_rng(number)
        level = 800 + 700 * mask_of(number, side, classes).astype(np.float64)
        count = len(bands or BANDS)
        values = level + 100 * np.arange(count)[:, None, None] + draws.normal(0, 20, (count, side, side))
        scale = {"uint8": 0.05, "float32": 1e-4}.get(dtype, 1.0)
        write_geotiff(path, (values * scale).astype(dtype), bands, transform=place_of(number))
    return folder


def write_masks(
    folder: Path, names: Sequence[str], side: int = SIDE, classes: int = 2, codes: Sequence[int] = (3, 7, 9)
) -> Path:
    """The masks of these images: class k has the number `codes[k]`."""
    for number, name in enumerate(names):
        path = folder / f"{name}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        mask = np.array(codes, np.uint8)[mask_of(number, side, classes)]
        write_geotiff(path, mask[None], None, transform=place_of(number), nodata=None)
    return folder


def mask_of(number: int, side: int, classes: int) -> np.ndarray:
    """Class ids, int64 (side, side)."""
    mask = np.full((side, side), number % classes)
    mask[:, side // 2 :] = (number + 1) % classes
    return mask


def place_of(number: int) -> tuple[float, ...]:
    return (10.0, 0.0, 500_000.0 + 2_000 * number, 0.0, -10.0, 5_000_000.0)


def write_eurosat(root: Path, counts: tuple[int, int, int] = (8, 4, 4)) -> Path:
    """Images of two classes where TorchGeo's EuroSAT has them."""
    order = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B9", "B10", "B11", "B12", "B8A")
    folder = root / "ds" / "images" / "remote_sensing" / "otherDatasets" / "sentinel_2" / "tif"
    names = [f"{('Forest', 'River')[number % 2]}_{number}" for number in range(sum(counts))]
    write_images(folder, [f"{name.partition('_')[0]}/{name}" for name in names], order)
    starts = np.cumsum([0, *counts])
    for place, split in enumerate(("train", "val", "test")):
        listed = names[starts[place] : starts[place + 1]]
        (root / f"eurosat-{split}.txt").write_text("".join(f"{name}.jpg\n" for name in listed))
    return root
