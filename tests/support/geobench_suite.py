"""Writes made-up tasks in the layout of GEO-Bench v1: HDF5 samples with real pickles of the classes that it names.

The pixels say the label, so that features of any encoder can tell classes apart. Where the published files have wrong
names of bands, so have these.
"""

from __future__ import annotations

import datetime
import json
import pickle
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

S2 = (
    "01 - Coastal aerosol", "02 - Blue", "03 - Green", "04 - Red", "05 - Vegetation Red Edge",
    "06 - Vegetation Red Edge", "07 - Vegetation Red Edge", "08 - NIR", "08A - Vegetation Red Edge",
    "09 - Water vapour", "10 - SWIR - Cirrus", "11 - SWIR", "12 - SWIR",
)  # fmt: skip
S1 = (
    "01 - VH.Real", "02 - VH.Imaginary", "03 - VV.Real", "04 - VV.Imaginary", "05 - VH.LEE Filtered",
    "06 - VV.LEE Filtered", "07 - VH.LEE Filtered.Real", "08 - VV.LEE Filtered.Imaginary",
)  # fmt: skip
LANDSAT = ("04 - Red", "03 - Green", "02 - Blue", "05 - NIR", "06 - SWIR1", "07 - SWIR2")
RGB = ("Red", "Green", "Blue")
DN = {
    "B1": 1400.0, "B2": 1300.0, "B3": 1250.0, "B4": 1200.0, "B5": 1500.0, "B6": 2100.0, "B7": 2400.0, "B8": 2500.0,
    "B8A": 2594.0, "B9": 732.0, "B10": 12.0, "B11": 1819.0, "B12": 1119.0,
}  # fmt: skip
"""Means of digital numbers; those of the last five are EuroSAT's."""
ORDER = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
EUROSAT = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B9", "B10", "B11", "B12", "B8A")
"""What the published files hold under the names of `S2`, in order."""
BRICK_KILN = ("B1", "B2", "B3", "B4", "B5", "B7", "B8A", "B8", "B11", "B12", "red", "green", "blue")


@dataclass(frozen=True)
class Made:
    """How a task is written: what of each band, its dtype, its labels and its dates."""

    bands: Mapping[str, str]
    dtype: str
    outputs: int
    kind: str = "classification"
    scale: float = 1.0
    dates: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        return "segmentation_v1.0" if self.kind == "segmentation" else "classification_v1.0"


def _sentinel2(real: Sequence[str], without: Sequence[str] = ()) -> dict[str, str]:
    return {name: band for name, band in zip(S2, real, strict=True) if band not in without}


_PLAIN = dict.fromkeys(RGB, "picture")
_MASK = "segmentation"
_CLOUD = {"Cloud Probability": "cloud"}

MADE: Mapping[str, Made] = {
    "m-eurosat": Made(_sentinel2(EUROSAT), "int16", 10),
    "m-brick-kiln": Made(_sentinel2(BRICK_KILN), "int16", 2),
    "m-bigearthnet": Made(_sentinel2(ORDER, ("B10",)), "float32", 43, "multilabel", 0.5),
    "m-so2sat": Made(
        {**dict.fromkeys(S1, "sar"), **_sentinel2(ORDER, ("B1", "B9", "B10"))}, "float32", 17, scale=0.5e-4
    ),
    "m-forestnet": Made(dict.fromkeys(LANDSAT, "picture"), "uint8", 12, dates=("2016-01-01",)),
    "m-pv4ger": Made(_PLAIN, "uint8", 2),
    "m-cashew-plant": Made(
        {**_sentinel2(ORDER, ("B10",)), **_CLOUD}, "int16", 7, _MASK, 0.5, dates=("2019-11-05", "2019-12-10")
    ),
    "m-SA-crop-type": Made({**_sentinel2(ORDER, ("B10",)), **_CLOUD}, "int16", 10, _MASK, 0.5),
    "m-chesapeake": Made({**_PLAIN, "NearInfrared": "picture"}, "float32", 7, _MASK),
    "m-pv4ger-seg": Made(_PLAIN, "uint8", 2, _MASK),
    "m-NeonTree": Made({**_PLAIN, "Canopy Height Model": "height", "Neon": "cube"}, "uint8", 2, _MASK),
    "m-nz-cattle": Made(_PLAIN, "uint8", 2, _MASK),
}


def write_task(
    root: Path,
    name: str,
    counts: tuple[int, int, int] = (12, 6, 6),
    side: int = 16,
    classes: int | None = None,
    tables: bool = True,
    repaired: bool = False,
    without: Sequence[str] = (),
    seed: int = 0,
) -> Path:
    """A task's folder below the folder of its suite.

    Args:
        counts: samples of train, valid and test.
        classes: how many of the task's classes occur; None: all.
        tables: whether there are `label_map.json` and `label_stats.json`.
        repaired: write right names where the published files have wrong ones.
        without: names of bands that are left out.
    """
    made = MADE[name]
    folder = root / made.folder / name
    folder.mkdir(parents=True)
    draws = np.random.default_rng(seed)
    bands = {band: real for band, real in _repaired(name, made, repaired).items() if band not in without}
    ids, labels = [f"sample_{number:04d}" for number in range(sum(counts))], {}
    for number, sample in enumerate(ids):
        labels[sample] = _label(made, number, classes or made.outputs, side, draws)
        _write_sample(folder / f"{sample}.hdf5", made, bands, labels[sample], side, number, draws)
    starts = np.cumsum([0, *counts])
    splits = {split: ids[starts[at] : starts[at + 1]] for at, split in enumerate(("train", "valid", "test"))}
    for partition, share in (("default", 1.0), ("0.50x_train", 0.5), ("1.00x_train", 1.0)):
        part = {**splits, "train": splits["train"][: round(share * counts[0])]}
        (folder / f"{partition}_partition.json").write_text(json.dumps(part))
    _write_tables(folder, made, labels, bands, tables)
    with stand_ins() as named:
        specs = named["TaskSpecifications"]()
        specs.__dict__.update(
            dataset_name=name, benchmark_name=made.folder, patch_size=(side, side), n_time_steps=1,
            bands_info=[_info(named, band) for band in bands], label_type=_label_type(named, made),
            spatial_resolution=10,
        )  # fmt: skip
        (folder / "task_specs.pkl").write_bytes(pickle.dumps(specs, protocol=4))
    return folder


def _repaired(name: str, made: Made, repaired: bool) -> dict[str, str]:
    if not repaired:
        return dict(made.bands)
    right = {"m-eurosat": ORDER, "m-brick-kiln": ORDER}[name]
    return dict(zip(S2, right, strict=True))


def _label(made: Made, number: int, classes: int, side: int, draws: np.random.Generator) -> Any:
    if made.kind == "multilabel":
        labels = draws.integers(0, 2, made.outputs)
        return labels
    if made.kind == "segmentation":
        mask = np.zeros((side, side), np.uint8)
        mask[:, : side // 2] = number % classes
        mask[: side // 4] = (number + 1) % classes
        return mask
    return number % classes


def _pixels(real: str, made: Made, label: Any, side: int, band: int, draws: np.random.Generator) -> NDArray[Any]:
    """An image whose values say the label, so that classes can be told apart, in the band's own units."""
    if made.kind == "multilabel":
        strength = np.full((side, side), float(label[band % made.outputs]))
    elif made.kind == "segmentation":
        strength = label.astype(np.float64) / made.outputs
    else:
        # Classes differ in colour: each has its own sequence of bands that are brighter.
        strength = np.full((side, side), float(np.cos(1.7 * label + band)))
    noise = draws.normal(0, 0.05, (side, side))
    if real in DN:
        return (DN[real] * (1 + 0.4 * strength + noise)).clip(1) * made.scale
    if real == "sar":
        return np.exp(strength + noise) * 0.05
    if real == "cube":
        return np.repeat(strength[..., None], 5, axis=2)
    return (100 + 60 * strength + 20 * noise).clip(1, 254)


def _write_sample(
    path: Path, made: Made, bands: Mapping[str, str], label: Any, side: int, number: int, draws: np.random.Generator
) -> None:
    attributes: dict[str, Any] = {}
    order = []
    with stand_ins() as named, h5py.File(path, "w") as file:

        def write(stored: str, pixels: NDArray[Any], info: Any, date: datetime.date | None) -> None:
            file.create_dataset(stored, data=pixels)
            order.append(stored)
            attributes[stored] = {
                "date": date, "date_id": date, "spatial_resolution": 10, "band_info": info, "meta_info": None,
                "transform": Affine(10, 0, 500_000 + 2_000 * number, 0, -10, 5_000_000), "crs": CRS.from_epsg(32632),
            }  # fmt: skip

        for date in made.dates or (None,):
            day = None if date is None else datetime.date.fromisoformat(date)
            for at, (band, real) in enumerate(bands.items()):
                pixels = _pixels(real, made, label, side, at, draws).astype(made.dtype)
                write(band if date is None else f"{band}_{date}", pixels, _info(named, band), day)
        if made.kind == "segmentation":
            write("label", label, _label_type(named, made), None)
        else:
            attributes["label"] = label if isinstance(label, np.ndarray) else int(label)
        attributes["bands_order"] = order
        file.attrs["pickle"] = str(pickle.dumps(attributes))


def _write_tables(folder: Path, made: Made, labels: Mapping[str, Any], bands: Mapping[str, str], tables: bool) -> None:
    (folder / "band_stats.json").write_text(json.dumps({band: {"mean": 0.0, "std": 1.0} for band in bands}))
    if not tables or made.kind == "segmentation":
        return
    if made.kind == "classification":
        by_class: dict[str, list[str]] = {}
        for sample, label in labels.items():
            by_class.setdefault(str(label), []).append(sample)
        (folder / "label_map.json").write_text(json.dumps(by_class))
    listed = {sample: np.atleast_1d(label).tolist() for sample, label in labels.items()}
    (folder / "label_stats.json").write_text(json.dumps(listed))


def _info(named: Mapping[str, type], band: str) -> Any:
    kind = (
        "Sentinel1" if band in S1 else "Sentinel2" if band in S2 else "Landsat8" if band in LANDSAT else "SpectralBand"
    )
    info = named[kind]()
    info.__dict__.update(name=band, alt_names=(), spatial_resolution=10, wavelength=None)
    return info


def _label_type(named: Mapping[str, type], made: Made) -> Any:
    kinds = {"segmentation": "SegmentationClasses", "multilabel": "MultiLabelClassification"}
    label = named[kinds.get(made.kind, "Classification")]()
    label.__dict__.update(n_classes=made.outputs, _class_names=None, class_name=None)
    if made.kind == "segmentation":
        label.__dict__.update(name="label", alt_names=(), spatial_resolution=10)
    return label


_CLASSES = {
    "geobench.dataset": ("Sentinel1", "Sentinel2", "Landsat8", "SpectralBand", "SegmentationClasses"),
    "geobench.label": ("Classification", "MultiLabelClassification"),
    "geobench.task": ("TaskSpecifications",),
}


@contextmanager
def stand_ins() -> Iterator[Mapping[str, type]]:
    """Classes under the names that GEO-Bench's pickles hold, in this block: name -> class."""
    before = {name: sys.modules.get(name) for name in ("geobench", *_CLASSES)}
    sys.modules["geobench"] = ModuleType("geobench")
    found: dict[str, type] = {}
    for module, names in _CLASSES.items():
        sys.modules[module] = ModuleType(module)
        for name in names:
            found[name] = type(name, (), {"__module__": module})
            setattr(sys.modules[module], name, found[name])
    try:
        yield found
    finally:
        for name, module_before in before.items():
            if module_before is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module_before
