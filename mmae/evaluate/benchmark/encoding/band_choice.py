"""Which bands of a task a model takes: by name, with substitutes where the user asks for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmae.errors import InputError
from mmae.inference.band_plan import find_dataset
from mmae.modalities import MODALITIES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.evaluate.benchmark.tasks.benchmark_task import BenchmarkTask

NONE: Final = "none"
"""The source of a substitution that gives no data."""


@dataclass(frozen=True)
class Column:
    """One band of an array for the encoder: its name, and its place in the task's array; None: no data."""

    name: str
    place: int | None


def choose_columns(
    inputs: Sequence[str], task: BenchmarkTask, substitutes: Sequence[tuple[str, str]]
) -> tuple[dict[str, tuple[Column, ...]], list[str]]:
    """Dataset -> the bands that the model takes, with substitutes for those that are missing; and what was done."""
    columns: dict[str, list[Column]] = {}
    notes = []
    for dataset, names in task.bands.items():
        kept = [Column(name, place) for place, name in enumerate(names) if _takes(inputs, dataset, name)]
        if kept:
            columns[dataset] = kept
    for target, source in substitutes:
        for dataset, band in _targets(inputs, target, columns):
            place = None if source == NONE else _place(task, dataset, source)
            if place is None and source != NONE:
                raise InputError(f"{task.info.name}: --substitute {target}={source}: the task has no band {source}")
            columns[dataset].append(Column(band, place))
            what = "no data" if place is None else source
            notes.append(f"{task.info.name}: {band} is missing, and {what} is taken for it, as --substitute asks")
    return {dataset: tuple(row) for dataset, row in columns.items()}, notes


def no_bands(task: BenchmarkTask, inputs: Sequence[str]) -> str:
    """Why a task is of no use to a model, to print."""
    listed = "; ".join(f"{dataset} {', '.join(names)}" for dataset, names in task.bands.items())
    return (
        f"{task.info.name}: the model takes none of its bands ({listed}), as its inputs are {', '.join(inputs)}: leave "
        "the task out (--tasks), or take another model"
    )


def _takes(inputs: Sequence[str], dataset: str, band: str) -> bool:
    try:
        return find_dataset(inputs, [band]) == dataset
    except InputError:
        # Datasets that share names of bands, as both maps of classes do, need the dataset too.
        return any(MODALITIES[name].dataset == dataset and band in MODALITIES[name].band_names for name in inputs)


def _targets(inputs: Sequence[str], target: str, columns: Mapping[str, Sequence[Column]]) -> list[tuple[str, str]]:
    """The bands of a task's datasets that a substitution fills: those that the model takes and the task lacks."""
    lacking = [
        (dataset, band)
        for dataset, row in columns.items()
        for band in _needed(inputs, dataset)
        if band not in {column.name for column in row}
    ]
    return [each for each in lacking if target.lower() in {each[0].lower(), each[1].lower()}]


def _needed(inputs: Sequence[str], dataset: str) -> list[str]:
    rows = [MODALITIES[name] for name in inputs if MODALITIES[name].dataset == dataset]
    return list(dict.fromkeys(band for row in rows for band in row.band_names))


def _place(task: BenchmarkTask, dataset: str, band: str) -> int | None:
    names = [name.lower() for name in task.bands[dataset]]
    return names.index(band.lower()) if band.lower() in names else None


def left_out(
    task: str, inputs: Sequence[str], used: Sequence[str], columns: Mapping[str, Sequence[Column]]
) -> list[str]:
    """Sentences about the model's modalities that the task does not complete."""
    absent, partly = [], []
    for row in (MODALITIES[name] for name in inputs if name not in used):
        there = {column.name for column in columns.get(row.dataset, ())}
        lacking = [band for band in row.band_names if band not in there]
        if len(lacking) == len(row.band_names):
            absent.append(row.name)
        else:
            partly.append(f"{row.name} (it also needs {', '.join(lacking)})")
    found = [f"{task}: it is encoded as {', '.join(used)}"]
    if partly or absent:
        found.append(f"{task}: left out of the model's modalities: {', '.join([*partly, *absent])}")
    return found


def with_columns(array: NDArray[Any], columns: Sequence[Column]) -> NDArray[Any]:
    """(B, C, H, W) with the columns' bands; codes of classes stay integers."""
    places = [column.place for column in columns]
    if None not in places:
        return array[:, [place for place in places if place is not None]]
    nothing = np.full_like(array[:, 0], np.nan)
    return np.stack([nothing if place is None else array[:, place] for place in places], axis=1)
