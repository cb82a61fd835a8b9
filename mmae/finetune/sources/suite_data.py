"""A task of a benchmark suite as labelled data: the suite's own reader, one tile at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xxhash

from mmae.errors import InputError
from mmae.evaluate.benchmark.geobench.geobench_task import GeobenchTask
from mmae.evaluate.benchmark.mmearth_bench.bench_task import BenchTask
from mmae.evaluate.benchmark.open_suite import open_task
from mmae.evaluate.benchmark.tasks.benchmark_task import TRAIN, VALID
from mmae.finetune.sources.labelled_data import LABEL, DataFacts, is_categorical

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.config.finetune_schema import SourceConfig, TaskKind
    from mmae.evaluate.benchmark.tasks.benchmark_task import BenchmarkTask

_NAMES: Final = {TRAIN: "train", VALID: "val"}
_PICTURE_SHIFT: Final = 1.0
"""Is added to pictures: 0 is no data in Sentinel-2's datasets, and black in a picture is black."""


@dataclass(frozen=True, eq=False)
class SuiteData:
    """See `LabelledData`.

    Attributes:
        task: of the suite.
        facts: of the task.
    """

    task: BenchmarkTask
    facts: DataFacts

    def read(self, position: int, datasets: Sequence[str]) -> Mapping[str, NDArray[Any]]:
        tiles = _with_datasets(self.task, datasets).read([self.facts.keys[position]])
        arrays: dict[str, NDArray[Any]] = {}
        for dataset in (name for name in tiles.arrays if name in datasets):
            array = tiles.arrays[dataset][0]
            if dataset in self.facts.pictures:
                array = array + np.float32(_PICTURE_SHIFT)
            arrays[dataset] = array.astype(np.int32 if is_categorical(dataset) else np.float32)
        label = np.asarray(tiles.labels[0], self.facts.label_dtype)
        shape = self.facts.label_shape
        dense = len(shape) > 1
        return arrays | {LABEL: label[None] if dense and label.ndim == len(shape) - 1 else label.reshape(shape[:1])}


def open_suite(source: SourceConfig, kind: TaskKind, places: bool) -> SuiteData:
    """Open the task that the recipe names.

    Args:
        kind: of task that the recipe asks for.
        places: whether the place of every tile is needed. Otherwise only test tiles have theirs.

    Raises:
        InputError: the suite has no such task, its files are missing or damaged, or the task is of another kind.
    """
    assert source.folder is not None
    assert source.task is not None
    task = open_task(source.kind, Path(source.folder), source.task, source.partition, source.level)
    info = task.info
    if info.kind != kind:
        raise InputError(
            f"{info.name} is a task of {info.kind}, and task.kind={kind}: set task.kind={info.kind}, or use its recipe"
        )
    keys = tuple(sorted({each for ids in task.splits.values() for each in ids}, key=_in_order))
    place_of = {key: place for place, key in enumerate(keys)}
    splits = {
        _NAMES.get(split, split): np.sort(np.array([place_of[each] for each in ids], np.int64))
        for split, ids in task.splits.items()
    }
    first = task.read(keys[:1])
    sizes = {array.shape[-2:] for array in first.arrays.values()}
    if len(sizes) != 1:
        raise InputError(f"{source.folder}: arrays of {info.name} have several sizes: {sorted(sizes)}")
    regression = info.kind in {"regression", "pixel_regression"}
    lat_N, lon_N = _places(task, keys, splits, places)
    facts = DataFacts(
        where=f"{source.folder} ({info.name})",
        name=info.name,
        kind=info.kind,
        names=_names(task),
        codes=None,
        units=("",) if regression else (),
        keys=keys,
        splits=splits,
        bands={dataset: tuple(names) for dataset, names in task.bands.items()},
        level=task.level,
        size=next(iter(sizes)),
        fingerprint=_fingerprint(task, keys),
        pictures=frozenset(dataset for dataset, unit in task.units.items() if unit == "picture"),
        notes=tuple(task.notes),
        lat_N=lat_N,
        lon_N=lon_N,
    )
    return SuiteData(task, facts)


def _with_datasets(task: BenchmarkTask, datasets: Sequence[str]) -> BenchmarkTask:
    """The same task, which reads no other datasets: the census asks for labels only."""
    if isinstance(task, BenchTask):
        return replace(task, sources={name: row for name, row in task.sources.items() if name in datasets})
    if isinstance(task, GeobenchTask):
        stored = {name: row for name, row in task.stored.items() if name in datasets}
        if not stored:
            # The reader needs a band: the dates of a sample are those of its bands.
            dataset, row = next(iter(task.stored.items()))
            stored = {dataset: dict([next(iter(row.items()))])}
        return replace(task, stored=stored)
    return task


def _fingerprint(task: BenchmarkTask, keys: tuple[str, ...]) -> str:
    """Of the samples and how they are read; files that are copied elsewhere stay the same."""
    size = task.path.stat().st_size if isinstance(task, BenchTask) else task.fingerprint(keys)
    said = (task.info.name, keys, sorted(task.bands.items()), task.level, size)
    return xxhash.xxh3_128_hexdigest(repr(said).encode())


def _in_order(key: str) -> tuple[int, str]:
    """Rows of a file in their order, other ids as text."""
    return (int(key), "") if key.isascii() and key.isdigit() else (0, key)


def _names(task: BenchmarkTask) -> tuple[str, ...]:
    info = task.info
    if info.kind in {"regression", "pixel_regression"}:
        return (info.name,)
    if isinstance(task, BenchTask) and len(task.species) == info.outputs:
        return tuple(sorted(task.species, key=lambda name: task.species[name]))
    return tuple(f"class {number}" for number in range(info.outputs))


def _places(
    task: BenchmarkTask, keys: tuple[str, ...], splits: Mapping[str, NDArray[np.int64]], every: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Latitude and longitude of tiles: to read them can take as long as to read the tiles."""
    lat_N, lon_N = np.full((2, len(keys)), np.nan)
    tested = [positions for split, positions in splits.items() if split not in {"train", "val"}]
    wanted = np.arange(len(keys)) if every else np.unique(np.concatenate([*tested, np.empty(0, np.int64)]))
    found_n2 = task.places([keys[place] for place in wanted.tolist()]) if len(wanted) else None
    if found_n2 is not None:
        lat_N[wanted], lon_N[wanted] = found_n2.T
    return lat_N, lon_N
