"""Scores of one encoder: each task, by each method, of the encoder's features and of each baseline's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from mmae.errors import InputError
from mmae.evaluate.frozen.bootstrap import Interval, bootstrap, difference
from mmae.evaluate.frozen.diagnostics import diagnose
from mmae.evaluate.frozen.label_fraction import take_fraction
from mmae.evaluate.frozen.methods import Knn, Logistic, Method, Ridge
from mmae.evaluate.frozen.metrics import METRICS
from mmae.evaluate.frozen.parts import NO_LABEL
from mmae.evaluate.frozen.sweep import Candidate, Probed
from mmae.evaluate.probe.block_split import LEFT_OUT, PARTS
from mmae.evaluate.probe.kept_fits import probe_once
from mmae.evaluate.probe.probe_features import (
    ENCODER,
    FEATURE_SETS,
    STATISTICS,
    UNTRAINED,
    VALID,
    FeatureJob,
    Wanted,
    block_and_pooling,
)
from mmae.evaluate.probe.probe_tasks import PROBE_TASKS, ProbeTask
from mmae.evaluate.probe.residuals import left_over, predicted_by, terms
from mmae.evaluate.probe.task_rows import TaskRows, TilePlan, rows_of, values_of
from mmae.terminal.table import Value

if TYPE_CHECKING:
    from numpy.typing import NDArray

Row = dict[str, Value]

_METRICS: Final[Mapping[str, tuple[str, str]]] = {
    "classes": ("accuracy", "balanced_accuracy"),
    "pixels": ("miou", "pixel_accuracy"),
    "values": ("rmse", "r2"),
}
"""Kind of targets -> the metric that chooses and has an interval, and one beside it."""

_DENSE_CS: Final = (1e-3, 1e-2, 1e-1, 1.0)
_MOST_GROUPS_NOTED: Final = 10


@dataclass(frozen=True)
class Protocol:
    """Attributes:
    k: of nearest neighbours.
    fractions: shares of the labels of train and val.
    folds: draws of an interval.
    min_class: the least rows of a class in train.
    """

    k: int = 20
    fractions: tuple[float, ...] = (1.0,)
    folds: int = 200
    min_class: int = 10


@dataclass(frozen=True, eq=False)
class _Features:
    """The stored features of a task: feature set -> arrays by block and pooling."""

    job: FeatureJob
    wanted: Wanted
    arrays: Mapping[str, Mapping[str, NDArray[Any]]]

    def name(self, features: str) -> str:
        """What these features are called on disk: a hash of all that they depend on."""
        return self.job.store(features, self.wanted).folder.name


def wanted_of(task: ProbeTask, inputs: Sequence[str]) -> Wanted:
    """The features that a task is scored on."""
    return Wanted(tuple(inputs), "patch" if task.dense else "tile")


def score_task(
    task: ProbeTask, plan: TilePlan, job: FeatureJob, inputs: Sequence[str], protocol: Protocol
) -> tuple[list[Row], list[str]]:
    """The rows of the table for a task, and notes on what was left out.

    Raises:
        InputError: too few labels, classes or tiles; features that are not finite.
    """
    wanted = wanted_of(task, inputs)
    kept = _Features(job, wanted, {name: job.load(name, wanted) for name in FEATURE_SETS})
    valid = kept.arrays[ENCODER][VALID]
    rows = rows_of(task, _with_data(plan, valid, task), job.seed, protocol.min_class)
    notes = [*rows.notes, *_without_data(plan, valid, task)]
    groups = len(np.unique(rows.of_part(2).group_R))
    if groups < _MOST_GROUPS_NOTED:
        notes.append(f"{task.name}: the interval rests on {groups} places in test, so that it says little")
    table: list[Row] = []
    for name, targets, more in _targets(task, rows, plan):
        for fraction in protocol.fractions:
            some = _of_fraction(targets, fraction, job.seed)
            for method in methods_of(task, protocol):
                table += _score(name, task.unit, some, kept, method, protocol, fraction)
        # They are of all labels, whatever shares were asked for.
        table += [{**row, "fraction": 1.0} for row in more]
    return table, notes


def methods_of(task: ProbeTask, protocol: Protocol) -> tuple[Method, ...]:
    """The methods that a task is probed with."""
    if task.kind == "classes":
        return (Knn((float(protocol.k),)), Logistic())
    return (Logistic(_DENSE_CS),) if task.kind == "pixels" else (Ridge(),)


def diagnostics_of(job: FeatureJob, wanted: Wanted) -> list[Row]:
    """Rank, uniformity and cosines of each feature set: of the encoder's last block, mean over tokens."""
    table: list[Row] = []
    for name in FEATURE_SETS:
        arrays = job.load(name, wanted)
        keys = [key for key in arrays if key.endswith((".mean", ".global", ".tile"))]
        last = max(block_and_pooling(key)[0] for key in keys)
        for key in (key for key in keys if block_and_pooling(key)[0] == last):
            found = diagnose(torch.from_numpy(arrays[key][arrays[VALID]]))
            row: Row = {"features": name, "pooling": block_and_pooling(key)[1] if last >= 0 else None}
            table.append({**row, **vars(found)})
    return table


def _targets(task: ProbeTask, rows: TaskRows, plan: TilePlan) -> Iterator[tuple[str, TaskRows, list[Row]]]:
    """The targets of a task; and, where another task's labels say part of it, what these leave over."""
    if task.beyond is None:
        yield task.name, rows, []
        return
    other = values_of(PROBE_TASKS[task.beyond], plan)
    rows = rows.take(~np.isnan(other[rows.tile_R].sum(1)))
    predicted = predicted_by(rows, terms(task.beyond, other))
    test = torch.from_numpy(rows.part_R == 2)
    alone: Row = {"task": task.name, "method": "linear", "features": f"{task.beyond} alone"}
    scores = {name: METRICS[name].compute(predicted[test], rows.y_R[test].double()) for name in _METRICS["values"]}
    alone |= {"metric": _told_metric("rmse", task.unit), "score": scores["rmse"], "also": "R2"}
    yield task.name, rows, [alone | {"also_score": scores["r2"], "rows": int(test.sum())}]
    yield f"{task.name} beyond {task.beyond}", left_over(rows, predicted), []


def _score(
    name: str,
    unit: str,
    rows: TaskRows,
    kept: _Features,
    method: Method,
    protocol: Protocol,
    fraction: float,
) -> Iterator[Row]:
    first, second = (METRICS[metric] for metric in _METRICS[rows.task.kind])
    test = rows.of_part(2)
    y, groups = test.y_R, torch.from_numpy(test.group_R)
    found: dict[str, Probed] = {}
    normalisers = _normalisers(rows, method)
    for features in FEATURE_SETS:
        candidates = _candidates(rows, kept.arrays[features])
        try:
            found[features] = probe_once(
                kept.job.root, kept.name(features), rows, candidates, method, first, normalisers
            )
        except InputError as error:
            raise InputError(f"{name}, {features}, {fraction:g} of the labels: {error}") from None
    for features, probed in found.items():
        choice = probed.choice
        row: Row = {
            "task": name,
            "method": f"kNN {choice.setting:g}" if method.name == "kNN" else method.name,
            "features": features,
            "fraction": fraction,
            "metric": _told_metric(first.name, unit),
            **_interval("", bootstrap(first, probed.prediction, y, groups, protocol.folds)),
            "also": _told_metric(second.name, ""),
            "also_score": _known(second.compute(probed.prediction, y)),
            "rows": len(test),
            "train_rows": rows.count(0),
            "val_score": _known(probed.val_score),
            "block": choice.block if choice.block >= 0 else None,
            "pooling": choice.pooling if choice.block >= 0 else None,
            "normaliser": choice.normaliser,
            "setting": choice.setting,
        }
        if features == ENCODER:
            for other, key in ((UNTRAINED, "untrained_"), (STATISTICS, "statistics_")):
                gain = difference(first, probed.prediction, found[other].prediction, y, groups, protocol.folds)
                row |= _interval(f"over_{key}", gain)
        yield row


def _normalisers(rows: TaskRows, method: Method) -> tuple[str, ...]:
    if rows.task.kind == "pixels":
        # A fit of thousands of rows takes long where dimensions differ much in scale.
        return ("zscore",)
    # A free bias makes centring the same as nothing for linear methods.
    return ("none", "centre", "zscore") if method.name == "kNN" else ("none", "zscore")


def _candidates(rows: TaskRows, arrays: Mapping[str, NDArray[Any]]) -> Iterator[Candidate]:
    for key in arrays:
        if key != VALID:
            block, pooling = block_and_pooling(key)
            parts = [rows.of_part(part).features(arrays[key]) for part in range(3)]
            yield Candidate(block, pooling, *parts)


def _of_fraction(rows: TaskRows, fraction: float, seed: int) -> TaskRows:
    """The rows with a share of the labels of train and of val. Of patches, whole tiles are taken."""
    if fraction == 1:
        return rows
    kept = [np.flatnonzero(rows.part_R == 2)]
    for part in (0, 1):
        inside = np.flatnonzero(rows.part_R == part)
        if rows.task.kind == "classes":
            keys = torch.from_numpy(rows.key_R[inside])
            taken = take_fraction("classes", rows.y_R[torch.from_numpy(inside)], keys, fraction, seed).numpy()
            kept.append(inside[taken])
        else:
            tiles = np.unique(rows.key_R[inside])
            some = take_fraction("values", torch.from_numpy(tiles), torch.from_numpy(tiles), fraction, seed)
            kept.append(inside[np.isin(rows.key_R[inside], tiles[some.numpy()])])
    return rows.take(np.sort(np.concatenate(kept)))


def _with_data(plan: TilePlan, valid: NDArray[np.bool_], task: ProbeTask) -> TilePlan:
    """The plan without tiles, or label pixels of patches, where the inputs hold no data."""
    if not task.dense:
        return replace(plan, part_N=np.where(valid, plan.part_N, LEFT_OUT).astype(np.int8))
    assert task.modality is not None
    ids = plan.stored[task.modality]
    ids = np.where(valid.reshape(*ids.shape[:3], 1), ids, NO_LABEL)
    return replace(plan, stored={**plan.stored, task.modality: ids})


def _without_data(plan: TilePlan, valid: NDArray[np.bool_], task: ProbeTask) -> Iterator[str]:
    """A sentence if there are tiles of which the inputs hold nothing."""
    empty_N = ~(valid.any(1) if task.dense else valid)
    counts = {name: int((empty_N & (plan.part_N == number)).sum()) for number, name in enumerate(PARTS)}
    if found := [f"{count} of {name}" for name, count in counts.items() if count]:
        yield f"{task.name}: tiles without data in any input are left out: {', '.join(found)}"


def _interval(prefix: str, found: Interval) -> Row:
    names = ("score", "low", "high") if not prefix else ("gain", "low", "high")
    return {f"{prefix}{name}": _known(value) for name, value in zip(names, vars(found).values(), strict=True)}


def _told_metric(name: str, unit: str) -> str:
    told = {"miou": "mIoU", "rmse": "RMSE", "r2": "R2"}.get(name, name.replace("_", " "))
    return f"{told}, {unit}" if unit and name == "rmse" else told


def _known(value: float) -> float | None:
    """JSON has no NaN."""
    return None if math.isnan(value) else value
