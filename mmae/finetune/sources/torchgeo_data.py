"""A data set of TorchGeo as labelled data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
import xxhash

from mmae.errors import InputError
from mmae.finetune.labelled.label_sources import UNKNOWN
from mmae.finetune.sources.band_names import BandMatch, match_bands
from mmae.finetune.sources.image_units import ImageUnits, image_units
from mmae.finetune.sources.labelled_data import LABEL, DataFacts
from mmae.finetune.sources.torchgeo_class import band_names, class_names, open_splits
from mmae.terminal.error_line import first_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.config.finetune_schema import SourceConfig, TaskKind
    from mmae.modalities import S2Level

_LEVELS: Final[Mapping[str, S2Level]] = {
    "EuroSAT": "l1c", "EuroSAT100": "l1c", "EuroSATSpatial": "l1c", "BigEarthNet": "l2a", "BigEarthNetV2": "l2a",
}  # fmt: skip
"""Data sets whose publications state the level of their images."""
_MOST_CLASSES: Final = 10_000
_COUNTED: Final = 1024
"""Training samples whose labels say how many classes there are, where the data set does not."""
_LABELS: Final = {"segmentation": "mask", "pixel_regression": "mask"}
_OTHER: Final = "label"


@dataclass(frozen=True, eq=False)
class TorchgeoData:
    """See `LabelledData`.

    Attributes:
        facts: of the data set.
        samples: TorchGeo's data set and the index there, of each tile.
        matched: bands of the images.
        units: of their numbers.
        ignore: numbers in labels that are not scored.
    """

    facts: DataFacts
    samples: tuple[tuple[Any, int], ...]
    matched: BandMatch
    units: ImageUnits
    ignore: tuple[int, ...]

    def read(self, position: int, datasets: Sequence[str]) -> Mapping[str, NDArray[Any]]:
        key = self.facts.keys[position]
        sample = _sample(*self.samples[position], f"{self.facts.where}: {key}")
        found: dict[str, NDArray[Any]] = {}
        image = _array(sample, "image", f"{self.facts.where}: {key}")
        for dataset in self.facts.bands:
            if dataset in datasets:
                values = image[list(self.matched.places[dataset])]
                found[dataset] = self.units(dataset, values, np.isfinite(values))
        label = _array(sample, _LABELS.get(self.facts.kind, _OTHER), f"{self.facts.where}: {key}")
        found[LABEL] = self._label(label, key, image.shape[-2:])
        return found

    def _label(self, label: NDArray[Any], key: str, size: tuple[int, ...]) -> NDArray[Any]:
        facts = self.facts
        if facts.kind in _LABELS and label.shape[-2:] != size:
            raise InputError(f"{facts.where}: the mask of {key!r} is {label.shape}, and its image is {size}")
        shape = facts.label_shape
        if label.size != np.prod([*shape[:1], *(size if facts.kind in _LABELS else ())]):
            raise InputError(
                f"{facts.where}: the label of {key!r} has shape {label.shape}, and task.kind={facts.kind} needs {shape}"
            )
        label = label.reshape(shape[0], *(size if facts.kind in _LABELS else ()))
        if facts.kind not in {"classification", "segmentation"}:
            return np.where(np.isfinite(label), label, np.nan).astype(np.float32)
        known = ~np.isin(label, self.ignore)
        inside = (label >= 0) & (label < len(facts.names)) & (np.floor(label) == label)
        strange = known & ~inside
        if strange.any():
            raise InputError(
                f"{facts.where}: the label of {key!r} holds {label[strange][0]}, which is none of the "
                f"{len(facts.names)} classes: name it in source.ignore if it is not to be scored"
            )
        return np.where(known, label, UNKNOWN).astype(np.int32)


def open_torchgeo(source: SourceConfig, kind: TaskKind) -> TorchgeoData:
    """Open the data set that the recipe names, for each of its splits.

    Raises:
        InputError: TorchGeo is not installed, the data set cannot be opened, or its samples have no image or label.
    """
    assert source.folder is not None
    assert source.task is not None
    root, name = Path(source.folder), source.task
    opened = open_splits(name, root, source.options)
    train = opened["train"]
    where = f"{root} ({name})"
    samples = tuple((each, number) for each in opened.values() for number in range(len(each)))
    keys = tuple(f"{split}-{number:06d}" for split, each in opened.items() for number in range(len(each)))
    if not len(train):
        raise InputError(f"{where}: the split train has no sample")
    first = _sample(train, 0, f"{where}: {keys[0]}")
    image = _array(first, "image", where)
    if image.ndim != 3:
        raise InputError(f"{where}: an image has shape {image.shape}, and (bands, height, width) is needed")
    _array(first, _LABELS.get(kind, _OTHER), where)
    names = source.bands if source.bands is not None else band_names(train, name, len(image))
    if len(names) != len(image):
        raise InputError(f"{where}: an image has {len(image)} bands, and source.bands names {len(names)}")
    matched = match_bands(names, where)
    level = source.level or _LEVELS.get(name)
    units = image_units(source, matched.bands, {str(image.dtype)}, where, level)
    starts = np.cumsum([0, *(len(each) for each in opened.values())])
    splits = {
        split: np.arange(starts[number], starts[number + 1], dtype=np.int64) for number, split in enumerate(opened)
    }
    outputs = _names(train, kind, name, source.ignore, where)
    said = (name, keys, names, outputs, source.options, source.units, source.offset, level, source.ignore)
    facts = DataFacts(
        where=where,
        name=name,
        kind=kind,
        names=outputs,
        codes=None,
        units=("",) * len(outputs) if kind in {"regression", "pixel_regression"} else (),
        keys=keys,
        splits={split: positions for split, positions in splits.items() if len(positions)},
        bands=matched.bands,
        level=level if "sentinel2" in matched.bands and not units.pictures else None,
        size=(image.shape[-2], image.shape[-1]),
        fingerprint=xxhash.xxh3_128_hexdigest(repr(said).encode()),
        pictures=units.pictures,
        notes=(*matched.notes, *units.notes),
    )
    return TorchgeoData(facts, samples, matched, units, source.ignore)


def _sample(dataset: Any, number: int, where: str) -> Mapping[str, Any]:
    # Which error a class raises for a damaged file depends on the class.
    try:
        sample = dataset[number]
    except Exception as error:
        raise InputError(f"{where} cannot be read ({type(error).__name__}: {first_line(error)[:200]})") from None
    if not isinstance(sample, Mapping):
        raise InputError(f"{where} is {type(sample).__name__}, and a dictionary with an image and a label is needed")
    return sample


def _array(sample: Mapping[str, Any], key: str, where: str) -> NDArray[Any]:
    value = sample.get(key)
    if value is None:
        raise InputError(f"{where} has no {key!r} (it has {', '.join(map(str, sample))}): choose a task.kind that fits")
    found: NDArray[Any] = (value.detach().cpu() if isinstance(value, torch.Tensor) else torch.as_tensor(value)).numpy()
    return found


def _names(train: Any, kind: TaskKind, name: str, ignore: Sequence[int], where: str) -> tuple[str, ...]:
    """The classes, or the targets of a regression."""
    key = _LABELS.get(kind, _OTHER)
    if kind in {"regression", "pixel_regression"}:
        label = _array(_sample(train, 0, where), key, where)
        count = 1 if kind == "pixel_regression" and label.ndim == 2 else int(label.shape[0]) if label.ndim else 1
        return (name,) if count == 1 else tuple(f"{name} {number}" for number in range(count))
    said = class_names(train)
    if kind == "multilabel":
        count = _array(_sample(train, 0, where), key, where).size
        return said if len(said) == count else tuple(f"class {number}" for number in range(count))
    if said:
        return said
    most = 1
    for number in range(0, len(train), max(1, len(train) // _COUNTED)):
        label = _array(_sample(train, number, where), key, where)
        classes = label[~np.isin(label, ignore)]
        if (wrong := classes[~((classes >= 0) & (classes < _MOST_CLASSES) & (np.floor(classes) == classes))]).size:
            raise InputError(
                f"{where}: a label holds {wrong[0]}, which is no number of a class: name it in source.ignore, or "
                "choose a task.kind that fits"
            )
        most = max(most, int(classes.max(initial=0)))
    return tuple(f"class {number}" for number in range(most + 1))
