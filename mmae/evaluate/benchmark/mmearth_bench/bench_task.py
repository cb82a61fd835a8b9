"""A task of MMEarth-Bench that is open: its tiles as batches in MMEarth's units."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import h5py
import numpy as np

from mmae.disk.json_text import parse_json
from mmae.disk.regular_file import check_regular
from mmae.errors import InputError, did_you_mean
from mmae.evaluate.benchmark.mmearth_bench.bench_layout import PARTITIONS, SOURCES, TASKS, TESTS
from mmae.evaluate.benchmark.tasks.benchmark_task import TRAIN, VALID, BenchmarkTask, TaskInfo, Tiles, Unit
from mmae.evaluate.benchmark.tasks.suite_files import REMEDY, check_folder, read_json_file
from mmae.modalities import MODALITIES, Modality
from mmae.terminal.error_line import first_line
from mmae.terminal.plurals import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.modalities import S2Level

_NO_LABEL: Final = -9999.0
_MISSING: Final = "missing_modalities"
_PIXEL_KM: Final = 0.01
_MOST_BYTES: Final = 1 << 33
"""Of one tile's array; a file that says more is damaged."""


@dataclass(frozen=True, eq=False)
class BenchTask(BenchmarkTask):
    """See `BenchmarkTask`. Ids of tiles are their rows in the file.

    Attributes:
        path: the HDF5 file.
        sources: MMEarth's dataset -> name in the file, and the index among MMEarth's bands of each of its bands.
        no_data: name in the file -> the value that means no data.
        species: name of a species -> its place among the labels.
    """

    path: Path
    sources: Mapping[str, tuple[str, tuple[int, ...]]]
    no_data: Mapping[str, float]
    species: Mapping[str, int]

    @property
    def bands(self) -> Mapping[str, tuple[str, ...]]:
        return {dataset: _band_names(dataset) for dataset in self.sources}

    @property
    def units(self) -> Mapping[str, Unit]:
        return dict.fromkeys(self.sources, "stored")

    def read(self, ids: Sequence[str]) -> Tiles:
        rows_B = np.array([int(each) for each in ids], np.int64)
        with _opened(self.path) as file:
            missing = _missing(file, rows_B)
            arrays = {dataset: self._array(file, dataset, rows_B, missing) for dataset in self.sources}
            labels = _labels(file, self.info, rows_B, self.species, self._no_label)
        return Tiles(arrays, labels)

    def places(self, ids: Sequence[str]) -> NDArray[np.float64] | None:
        with _opened(self.path) as file:
            if "geolocation" not in file:
                return None
            lon_lat_N2 = _rows(file["geolocation"], np.array([int(each) for each in ids], np.int64)).astype(np.float64)
        return lon_lat_N2[:, ::-1]

    @property
    def half_diagonal_km(self) -> float:
        with _opened(self.path) as file:
            sides = [tuple(file[name].shape[-2:]) for name, _ in self.sources.values()]
        return max(math.hypot(*side) for side in sides) / 2 * _PIXEL_KM

    def fingerprint(self, ids: Sequence[str]) -> str:
        said = json.dumps([self.info.name, list(ids), self.sources, sorted(self.no_data.items())])
        about = self.path.stat()
        return hashlib.blake2b(f"{said} {about.st_size} {about.st_mtime_ns}".encode(), digest_size=16).hexdigest()

    @property
    def _no_label(self) -> float:
        return self.no_data.get(self.info.name, _NO_LABEL)

    def _array(
        self, file: h5py.File, dataset: str, rows_B: NDArray[np.int64], missing: Sequence[frozenset[str]]
    ) -> NDArray[Any]:
        """(B, C, H, W): all of MMEarth's bands that a modality takes; codes of classes stay integers."""
        name, places = self.sources[dataset]
        stored = _rows(file[name], rows_B)
        stored = stored[:, None] if stored.ndim == 3 else stored
        mark = self.no_data.get(name, np.nan)
        absent_BCHW = np.isnan(stored) if np.isnan(mark) else stored == mark
        absent_BCHW[[_plain(name) in each for each in missing]] = True
        if (classes := _classes(dataset)) is not None:
            return _codes(name, stored, absent_BCHW, classes)
        values_BCHW = np.where(absent_BCHW, np.nan, stored).astype(np.float32)
        names = _band_names(dataset)
        whole_BCHW = np.full((len(stored), len(names), *stored.shape[2:]), np.nan, np.float32)
        numbers = _band_numbers(dataset)
        for band, place in enumerate(places):
            if place in numbers:
                whole_BCHW[:, numbers.index(place)] = values_BCHW[:, band]
        return whole_BCHW


def open_bench(data: Path, name: str, partition: str = "default", level: S2Level | None = None) -> BenchTask:
    """Open a task of the suite.

    Args:
        data: the suite's folder, which holds a folder a task and `no_data_values.json`.
        partition: `default` or `100%`, `50%`, `5%` of the training tiles.
        level: of the Sentinel-2 images; None: L2A.

    Raises:
        InputError: there is no such task or partition, or files are missing or damaged.
    """
    if name not in TASKS:
        raise InputError(f"mmearth-bench has no task {name!r}{did_you_mean(name, TASKS)}")
    if partition not in PARTITIONS:
        raise InputError(f"mmearth-bench has no partition {partition!r}{did_you_mean(partition, PARTITIONS)}")
    info, folder = TASKS[name], data / name
    check_folder(folder, f"task {name} of MMEarth-Bench")
    path = folder / f"{name}.h5"
    no_data = _no_data(data / "no_data_values.json")
    species = _species(data, folder, info.outputs) if info.kind == "multilabel" else {}
    with _opened(path) as file:
        sources = _sources(path, file)
        count = len(file[name]) if isinstance(file.get(name), h5py.Dataset) and file[name].shape else 0
        if not count:
            raise InputError(f"{path}: there are no labels {name!r}: {REMEDY}")
        splits = _splits(folder / f"{name}_split_data.json", PARTITIONS[partition], count)
        splits, notes = _with_labels(file, info, splits, species, no_data.get(name, _NO_LABEL))
    return BenchTask(info, partition, splits, level or "l2a", notes, path, sources, no_data, species)


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    try:
        check_regular(path)
        with h5py.File(path, "r") as file:
            yield file
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: {REMEDY}") from None
    # h5py raises what its C library says, which has no class of its own.
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise InputError(f"{path} cannot be read ({first_line(error)[:160]}): {REMEDY}") from None


def _rows(stored: Any, rows_B: NDArray[np.int64]) -> NDArray[Any]:
    """Rows of a data set that lies in the file itself, in the order asked for."""
    if not isinstance(stored, h5py.Dataset) or stored.external or stored.is_virtual:
        raise ValueError(f"{getattr(stored, 'name', stored)!r} is no data set of this file")
    if stored.dtype.itemsize * int(np.prod(stored.shape[1:], dtype=np.float64)) > _MOST_BYTES:
        raise ValueError(f"{stored.name!r} of shape {stored.shape} is larger than any tile")
    # h5py takes increasing rows only.
    unique, back = np.unique(rows_B, return_inverse=True)
    return np.asarray(stored[unique])[back]


def _texts(stored: h5py.Dataset, rows_B: NDArray[np.int64]) -> list[Any]:
    """What JSON texts, one a row, say."""
    found = []
    for text in _rows(stored, rows_B):
        found.append(parse_json(text) if isinstance(text, bytes | str) and text else [])
    return found


def _missing(file: h5py.File, rows_B: NDArray[np.int64]) -> list[frozenset[str]]:
    """The data sets that each tile lacks, in plain words; their numbers say nothing."""
    if _MISSING not in file:
        return [frozenset()] * len(rows_B)
    said = _texts(file[_MISSING], rows_B)
    return [frozenset(_plain(str(name)) for name in each) if isinstance(each, list) else frozenset() for each in said]


def _plain(name: str) -> str:
    """A data set is listed as `dynamic_world` and stored as `DynamicWorld`."""
    return name.replace("_", "").casefold()


def _classes(dataset: str) -> Modality | None:
    """The modality of a dataset whose pixels are classes; None for others."""
    return next((row for row in MODALITIES.values() if row.dataset == dataset and row.categorical), None)


def _codes(name: str, stored: NDArray[Any], absent_BCHW: NDArray[np.bool_], classes: Modality) -> NDArray[np.int64]:
    """MMEarth's codes of classes that are counted from 0, int64."""
    numbers = np.where(absent_BCHW, 0, stored)
    if not np.isin(numbers, np.arange(len(classes.class_codes))).all():
        raise ValueError(f"{name!r} holds more than the numbers 0 to {len(classes.class_codes) - 1} and no data")
    return np.where(absent_BCHW, int(classes.no_data[0]), np.array(classes.class_codes)[numbers.astype(np.int64)])


def _labels(
    file: h5py.File, info: TaskInfo, rows_B: NDArray[np.int64], species: Mapping[str, int], no_label: float
) -> NDArray[Any]:
    if info.kind == "multilabel":
        return _species_labels(_texts(file[info.name], rows_B), species, info.outputs)
    values = _rows(file[info.name], rows_B).astype(np.float32)
    values[values == no_label] = np.nan
    values[~np.isfinite(values)] = np.nan
    if info.kind == "regression":
        return values.reshape(len(rows_B), -1)[:, :1]
    return values.reshape(len(rows_B), *values.shape[-2:])


def _species_labels(said: Sequence[Any], species: Mapping[str, int], outputs: int) -> NDArray[np.uint8]:
    labels_BK = np.zeros((len(said), outputs), np.uint8)
    for row, names in enumerate(said):
        for name in names if isinstance(names, list) else ():
            if name not in species:
                raise ValueError(f"species {name!r:.80} is not in species_labels.json")
            labels_BK[row, species[name]] = 1
    return labels_BK


def _species(data: Path, folder: Path, outputs: int) -> dict[str, int]:
    path = next(
        (each for each in (folder / "species_labels.json", data / "species_labels.json") if each.exists()), None
    )
    said = read_json_file(path or folder / "species_labels.json")
    if not isinstance(said, dict) or not all(type(place) is int and 0 <= place < outputs for place in said.values()):
        raise InputError(f"{path} does not number {outputs} species: {REMEDY}")
    return said


def _no_data(path: Path) -> dict[str, float]:
    said = read_json_file(path)
    if not isinstance(said, dict):
        raise InputError(f"{path} is no table of values: {REMEDY}")
    found = {name: float(value) for name, value in said.items() if isinstance(value, int | float)}
    for dataset, source in SOURCES.items():
        classes, name = _classes(dataset), source.names[0]
        # It also says whether classes are counted from 0 or have the codes of MMEarth.
        if classes is not None and found.get(name) != len(classes.class_codes):
            raise InputError(
                f"{path}: no data of {name!r} is {said.get(name)!r:.40}, and {len(classes.class_codes)} is known, of "
                f"files that count its classes from 0: {REMEDY}"
            )
    return found


def _sources(path: Path, file: h5py.File) -> dict[str, tuple[str, tuple[int, ...]]]:
    """MMEarth's dataset -> name in the file and places of its bands, of all that the file holds."""
    found = {}
    for dataset, source in SOURCES.items():
        name = next((each for each in source.names if each in file), None)
        if name is None:
            continue
        shape = tuple(getattr(file[name], "shape", ()))
        bands = 1 if len(shape) == 3 else shape[1] if len(shape) == 4 else 0
        if bands not in source.places:
            known = " or ".join(map(str, source.places))
            raise InputError(f"{path}: {name!r} has shape {shape}, and {known} bands are known: {REMEDY}")
        found[dataset] = (name, source.places[bands])
    if not found:
        raise InputError(f"{path} holds none of {', '.join(source.names[0] for source in SOURCES.values())}: {REMEDY}")
    return found


def _splits(path: Path, share: str, count: int) -> dict[str, tuple[str, ...]]:
    said = read_json_file(path)
    keys = {TRAIN: f"train_{share}_indices", VALID: "val_indices", **{test: f"{test}_indices" for test in TESTS}}
    found: dict[str, tuple[str, ...]] = {}
    for split, key in keys.items():
        rows = said.get(key) if isinstance(said, dict) else None
        if not isinstance(rows, list) or not all(type(row) is int and 0 <= row < count for row in rows):
            raise InputError(f"{path}: {key!r} does not list rows of the {counted(count, 'tile')}: {REMEDY}")
        found[split] = tuple(map(str, dict.fromkeys(rows)))
    seen = set[str]()
    for split, ids in found.items():
        if shared := seen & set(ids):
            raise InputError(f"{path}: {counted(len(shared), 'tile')} of {split} in another split too: {REMEDY}")
        seen |= set(ids)
    return found


def _with_labels(
    file: h5py.File, info: TaskInfo, splits: Mapping[str, tuple[str, ...]], species: Mapping[str, int], no_label: float
) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """The splits without tiles that have no label, and sentences about what was left out."""
    if info.kind == "multilabel":
        return dict(splits), []
    kept: dict[str, tuple[str, ...]] = {}
    left_out = 0
    for split, ids in splits.items():
        has_N = np.zeros(len(ids), bool)
        for start in range(0, len(ids), 256):
            rows_B = np.array([int(each) for each in ids[start : start + 256]], np.int64)
            labels = _labels(file, info, rows_B, species, no_label)
            has_N[start : start + 256] = np.isfinite(labels.reshape(len(rows_B), -1)).any(1)
        kept[split] = tuple(each for each, has in zip(ids, has_N, strict=True) if has)
        left_out += int((~has_N).sum())
    return kept, [f"{info.name}: {counted(left_out, 'tile')} without any label are left out"] if left_out else []


def _band_numbers(dataset: str) -> list[int]:
    """The indices among MMEarth's bands that some modality takes, in order."""
    return sorted({band for row in MODALITIES.values() if row.dataset == dataset for band in row.bands})


def _band_names(dataset: str) -> tuple[str, ...]:
    names = {
        band: name
        for row in MODALITIES.values()
        if row.dataset == dataset
        for band, name in zip(row.bands, row.band_names, strict=True)
    }
    return tuple(names[band] for band in _band_numbers(dataset))
