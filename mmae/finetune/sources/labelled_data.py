"""What a source of labelled tiles says and gives, wherever its files come from.

Shape suffixes: N tiles, K classes or targets, C bands of a dataset, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from mmae.finetune.labelled.sample_labels import LABEL
from mmae.modalities import BY_LEVEL, DATASET_BANDS, MODALITIES, S2_BANDS
from mmae.terminal.plurals import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.config.finetune_schema import TaskKind
    from mmae.modalities import S2Level

__all__ = [
    "LABEL",
    "MAIN_SPLITS",
    "DataFacts",
    "Ground",
    "LabelledData",
    "band_numbers",
    "found_lines",
    "is_categorical",
]

MAIN_SPLITS: Final = ("train", "val", "test")
"""Names of splits that the fine-tuning's keys know."""


@dataclass(frozen=True)
class Ground:
    """Where the pixels of one tile lie.

    Attributes:
        crs: as well-known text.
        transform: the six numbers of an affine transform from column and row to the CRS.
    """

    crs: str
    transform: tuple[float, float, float, float, float, float]


@dataclass(frozen=True, eq=False)
class DataFacts:
    """What is known of a source before any image is read.

    Attributes:
        where: names the source in messages.
        name: of what is predicted.
        kind: of labels.
        names: of classes, or of the targets of a regression.
        codes: the number of each class in files; None: its place.
        units: of each target of a regression.
        keys: of tiles, each once; their places here are the positions of tiles.
        splits: name -> positions, int64; no tile is in two.
        bands: MMEarth's dataset -> names of the bands of its arrays, in order.
        pictures: datasets whose numbers have no physical scale.
        level: of Sentinel-2 images; None where there are none, or they are pictures.
        size: height and width of every tile, in pixels.
        fingerprint: hexadecimal digits that change with the files and with how they are read.
        notes: sentences on what was found: bands that match nothing, corrections, what was left out.
        lat_N, lon_N: degrees, NaN where unknown; None: unknown throughout.
        date_N: int32 yyyymmdd, 0 where unknown; None: unknown throughout.
        pixel_m: side of a pixel on the ground.
    """

    where: str
    name: str
    kind: TaskKind
    names: tuple[str, ...]
    codes: tuple[int, ...] | None
    units: tuple[str, ...]
    keys: tuple[str, ...]
    splits: Mapping[str, NDArray[np.int64]]
    bands: Mapping[str, tuple[str, ...]]
    level: S2Level | None
    size: tuple[int, int]
    fingerprint: str
    pictures: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    lat_N: NDArray[np.float64] | None = None
    lon_N: NDArray[np.float64] | None = None
    date_N: NDArray[np.int32] | None = None
    pixel_m: float = 10.0
    grounds: Mapping[int, Ground] = field(default_factory=dict)

    @property
    def label_shape(self) -> tuple[int, ...]:
        """(1,) of a class; (K,) of several; with (H, W) behind where each pixel has a label."""
        outputs = 1 if self.kind in {"classification", "segmentation"} else len(self.names)
        return (outputs, *self.size) if self.kind in {"segmentation", "pixel_regression"} else (outputs,)

    @property
    def label_dtype(self) -> np.dtype[Any]:
        """int32 of classes, -1 where the class is not known; float32 of the other kinds, NaN where nothing is known."""
        return np.dtype(np.int32 if self.kind in {"classification", "segmentation"} else np.float32)


class LabelledData(Protocol):
    """A source that is open for reading. It can be used after a fork, by one thread of a process at a time."""

    @property
    def facts(self) -> DataFacts: ...

    def read(self, position: int, datasets: Sequence[str]) -> Mapping[str, NDArray[Any]]:
        """Some datasets of one tile, the same whenever they are asked for.

        Dataset -> (C, H, W) in MMEarth's units, float32 with NaN where there is no data, or integer codes of a
        categorical dataset; and `LABEL` -> of `facts.label_shape` and `facts.label_dtype`. More may be given.

        Args:
            datasets: those that are wanted, of `facts.bands` and `LABEL`.

        Raises:
            InputError: a file is missing or damaged, or its label cannot be one of the task; the message names it.
        """
        ...


def found_lines(facts: DataFacts) -> Iterator[str]:
    """What was found in a source, for people."""
    height, width = facts.size
    parts = ", ".join(f"{name} {len(positions)}" for name, positions in facts.splits.items())
    yield f"{facts.where}: {counted(len(facts.keys), 'sample')} of {height}x{width} pixels ({parts})"
    for dataset, names in facts.bands.items():
        units = next(row.units for row in MODALITIES.values() if row.dataset == dataset)
        units = "numbers without units" if dataset in facts.pictures else units
        level = f", {facts.level}" if dataset in BY_LEVEL and facts.level is not None else ""
        yield f"bands that match {dataset}: {', '.join(names)} ({units}{level})"
    yield from facts.notes


def band_numbers(dataset: str, names: tuple[str, ...]) -> tuple[int, ...]:
    """The index of each band among those that MMEarth stores of a dataset."""
    if dataset == "sentinel2":
        return tuple(S2_BANDS.index(name) for name in names)
    known = {
        name: band
        for row in MODALITIES.values()
        if row.dataset == dataset
        for band, name in zip(row.bands, row.band_names, strict=True)
    }
    found = tuple(known[name] for name in names)
    assert all(band < DATASET_BANDS[dataset] for band in found)
    return found


def is_categorical(dataset: str) -> bool:
    """Whether a dataset holds codes of classes."""
    return any(row.categorical for row in MODALITIES.values() if row.dataset == dataset)
