"""A task of GEO-Bench v1 that is open: its samples as batches in MMEarth's units."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmae.errors import InputError, did_you_mean
from mmae.evaluate.benchmark.geobench.band_corrections import BandMeans, correction, correction_note
from mmae.evaluate.benchmark.geobench.class_labels import ClassLabels, read_labels
from mmae.evaluate.benchmark.geobench.partitions import SAMPLE_SUFFIX, read_partition
from mmae.evaluate.benchmark.geobench.sample_file import open_sample
from mmae.evaluate.benchmark.geobench.sample_places import centre_of, degrees, half_diagonal_km
from mmae.evaluate.benchmark.geobench.sensor_bands import OTHER_SENSORS, find_bands
from mmae.evaluate.benchmark.geobench.task_table import SURE_LEVELS, TASKS, TaskRow
from mmae.evaluate.benchmark.tasks.benchmark_task import NOT_SCORED, TRAIN, BenchmarkTask, Tiles, Unit
from mmae.evaluate.benchmark.tasks.suite_files import REMEDY, check_folder
from mmae.inference.stored_units import as_stored

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.modalities import S2Level

_JUDGED: Final = 16
"""Samples whose means show whether names of bands are wrong."""
_UNMARKED: Final = 255
"""The class of pixels that some masks leave out."""


@dataclass(frozen=True, eq=False)
class GeobenchTask(BenchmarkTask):
    """See `BenchmarkTask`.

    Attributes:
        folder: of the task.
        stored: dataset -> MMEarth's band -> its name in the files.
        values: what the numbers of the images are.
        labels: of whole samples; None where each pixel has one.
    """

    folder: Path
    stored: Mapping[str, Mapping[str, str]]
    values: str
    labels: ClassLabels | None

    @property
    def bands(self) -> Mapping[str, tuple[str, ...]]:
        return {dataset: tuple(names) for dataset, names in self.stored.items()}

    @property
    def units(self) -> Mapping[str, Unit]:
        unit: Unit = "picture" if self.values == "picture" else "stored"
        return dict.fromkeys(self.stored, unit)

    def read(self, ids: Sequence[str]) -> Tiles:
        read = [self._sample(sample) for sample in ids]
        shapes = {arrays[dataset].shape[1:] for arrays, _ in read for dataset in arrays}
        shapes |= {label.shape for _, label in read} if self.labels is None else set()
        if len(shapes) > 1:
            raise InputError(f"{self.folder}: samples have several sizes ({_listed(shapes)}): {REMEDY}")
        arrays = {dataset: np.stack([arrays[dataset] for arrays, _ in read]) for dataset in self.stored}
        return Tiles({name: self._in_units(name, array) for name, array in arrays.items()}, self._stacked(read))

    def places(self, ids: Sequence[str]) -> NDArray[np.float64] | None:
        found = []
        for sample in ids:
            with open_sample(self._path(sample)) as opened:
                found.append(centre_of(opened.description(), opened.shapes()))
        known_N2 = degrees(found)
        return known_N2 if bool(np.isfinite(known_N2).any()) else None

    @property
    def half_diagonal_km(self) -> float:
        with open_sample(self._path(self.splits[TRAIN][0])) as opened:
            return half_diagonal_km(opened.description(), opened.shapes())

    def fingerprint(self, ids: Sequence[str]) -> str:
        files = [self._path(sample).stat() for sample in ids]
        listed = [] if self.labels is None else [self.labels.listed.get(sample) for sample in ids]
        said = json.dumps(
            [self.info.name, list(ids), [[each.st_size, each.st_mtime_ns] for each in files], listed,
             {key: dict(names) for key, names in self.stored.items()}, self.values]
        )  # fmt: skip
        return hashlib.blake2b(said.encode(), digest_size=16).hexdigest()

    def _sample(self, sample: str) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64]]:
        with open_sample(self._path(sample)) as opened:
            pixels = opened.bands(name for names in self.stored.values() for name in names.values())
            label = opened.mask() if self.labels is None else self.labels.of(sample, opened)
        if self.labels is None:
            label = self._scored(sample, label)
        shape = max((array.shape for array in pixels.values()), default=(0, 0))
        whole = {name: self._enlarged(sample, name, array, shape) for name, array in pixels.items()}
        return {
            dataset: np.stack([whole[name] for name in names.values()]) for dataset, names in self.stored.items()
        }, label

    def _enlarged(self, sample: str, name: str, pixels: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        """A band that is stored with larger pixels, on the grid of the others."""
        rows, columns = (side // own for side, own in zip(shape, pixels.shape, strict=True))
        if (pixels.shape[0] * rows, pixels.shape[1] * columns) != shape:
            raise InputError(f"{self._path(sample)}: {name!r} of {pixels.shape} does not divide {shape}: {REMEDY}")
        return pixels.repeat(rows, axis=0).repeat(columns, axis=1)

    def _scored(self, sample: str, mask: NDArray[np.int64]) -> NDArray[np.int64]:
        wrong = (mask >= self.info.outputs) & (mask != _UNMARKED)
        if wrong.any():
            found = f"a pixel is of class {mask[wrong][0]}, and the task has {self.info.outputs}"
            raise InputError(f"{self._path(sample)}: {found}: {REMEDY}")
        return np.where((mask < 0) | (mask == _UNMARKED), NOT_SCORED, mask)

    def _in_units(self, dataset: str, array: NDArray[Any]) -> NDArray[np.float32]:
        if self.values == "picture":
            return array.astype(np.float32)
        named = {"sentinel1": "linear", "sentinel2": "reflectance" if self.values == "reflectance" else "dn"}
        found: NDArray[np.float32] = as_stored(array, dataset, named[dataset], 0.0).numpy().astype(np.float32)
        return found

    def _stacked(self, read: Sequence[tuple[Any, NDArray[np.int64]]]) -> NDArray[Any]:
        labels = np.stack([label for _, label in read])
        return labels.astype(np.uint8) if self.info.kind == "multilabel" else labels

    def _path(self, sample: str) -> Path:
        return self.folder / f"{sample}{SAMPLE_SUFFIX}"


def open_geobench(data: Path, name: str, partition: str = "default", level: S2Level | None = None) -> GeobenchTask:
    """Open a task of the suite.

    Args:
        data: the suite's folder, which holds `classification_v1.0` and `segmentation_v1.0`.
        partition: `default`, or a part of the training samples such as `0.10x_train`.
        level: of the Sentinel-2 images, if it is known better than the table does.

    Raises:
        InputError: there is no such task or partition, files are missing or damaged, or its bands cannot be told.
    """
    if name not in TASKS:
        raise InputError(f"geobench1 has no task {name!r}{did_you_mean(name, TASKS)}")
    row = TASKS[name]
    folder = data / row.folder / name
    check_folder(folder, f"task {name} of GEO-Bench v1")
    splits = read_partition(folder, partition)
    seen, others, dates = _seen(folder, splits[TRAIN])
    real = correction(name, seen)
    stored, unknown = find_bands(row.sensors, seen, real)
    unknown += others
    if not stored:
        raise InputError(f"{folder}: none of its bands ({', '.join(unknown)}) is known: {REMEDY}")
    chosen = level if level is not None and row.level is not None else row.level
    notes = [*([correction_note(name, real)] if real else []), *_notes(row, stored, unknown, chosen, level)]
    if dates > 1:
        notes.append(f"{name}: its samples hold up to {dates} dates; the last one that all bands have is used")
    labels = None if row.info.dense else read_labels(folder, row.info.kind == "multilabel", row.info.outputs)
    return GeobenchTask(row.info, partition, splits, chosen, tuple(notes), folder, stored, row.values, labels)


def _seen(folder: Path, train: Sequence[str]) -> tuple[dict[str, BandMeans], list[str], int]:
    """What some samples hold of each band of the first one; its data sets that are no bands; and its dates."""
    chosen = train[:: max(1, len(train) // _JUDGED)][:_JUDGED]
    with open_sample(folder / f"{chosen[0]}{SAMPLE_SUFFIX}") as opened:
        dates = {name: found for name, found in opened.names().items() if name != "label"}
        images = [name for name in dates if opened.is_band(name)]
    values: dict[str, list[NDArray[Any]]] = {name: [] for name in images}
    for sample in chosen:
        with open_sample(folder / f"{sample}{SAMPLE_SUFFIX}") as opened:
            for name in images:
                values[name].append(opened.bands([name])[name].astype(np.float64))
    seen = {
        name: BandMeans(float(np.mean([each.mean() for each in found])), max(float(each.max()) for each in found))
        for name, found in values.items()
    }
    return seen, [name for name in dates if name not in images], max(map(len, dates.values()), default=0)


def _notes(
    row: TaskRow, stored: Mapping[str, Mapping[str, str]], unknown: list[str], level: str | None, said: str | None
) -> list[str]:
    name, found = row.info.name, []
    if set(row.sensors) & OTHER_SENSORS:
        listed = ", ".join(f"{theirs!r} as {band}" for band, theirs in stored.get("sentinel2", {}).items())
        found.append(f"{name}: its images are not Sentinel-2's; its colours are taken for Sentinel-2's: {listed}")
    if row.level is not None and said is None and name not in SURE_LEVELS:
        found.append(f"{name}: its files do not say the level of its Sentinel-2 images, which are taken as {level}")
    if "sentinel1" in stored:
        found.append(f"{name}: its files do not say the orbit of its Sentinel-1 images, which are taken as ascending")
    if unknown:
        found.append(f"{name}: bands that MMEarth does not have are left out: {', '.join(map(repr, unknown))}")
    return found


def _listed(shapes: set[tuple[int, ...]]) -> str:
    return ", ".join("x".join(map(str, shape)) for shape in sorted(shapes))
