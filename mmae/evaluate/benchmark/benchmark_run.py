"""One run of `mmae benchmark`: opens all tasks first, and then adds a row for each score as soon as it is known."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import torch

from mmae.errors import InputError
from mmae.evaluate.benchmark.encoding.tile_features import Meter, TileFeatures
from mmae.evaluate.benchmark.encoding.tile_inputs import Reading, TileInputs, tile_inputs
from mmae.evaluate.benchmark.open_suite import open_task
from mmae.evaluate.benchmark.protocols.dense_protocols import DenseProtocol, dense_scores
from mmae.evaluate.benchmark.protocols.vector_protocols import VectorProtocol, vector_scores
from mmae.evaluate.benchmark.published_scores import PUBLISHED, normalised
from mmae.evaluate.benchmark.tasks.benchmark_task import TRAIN, VECTOR_PROTOCOLS
from mmae.evaluate.frozen.feature_store import FeatureStore
from mmae.evaluate.frozen.token_vectors import default_blocks, poolings_of
from mmae.processes import memory_of_this_process
from mmae.terminal.printable import printable
from mmae.version import __version__

if TYPE_CHECKING:
    from mmae.evaluate.benchmark.near_pretraining import Nearness, PretrainingPlaces
    from mmae.evaluate.benchmark.protocols.scored_test import ScoredTest
    from mmae.evaluate.benchmark.result_rows import ResultRows
    from mmae.evaluate.benchmark.tasks.benchmark_task import BenchmarkTask
    from mmae.inference.raw_encoder import RawEncoder
    from mmae.modalities import S2Level

_WINDOWS: Final = MappingProxyType({"cuda": 256, "cpu": 16})
"""Windows that are encoded at once."""
_SHARE: Final = re.compile(r"(?P<part>\d+(?:\.\d+)?)x_train|(?P<percent>\d+)%")


@dataclass(frozen=True)
class Asked:
    """What the user asks for.

    Attributes:
        suite, data: which suite, and where it lies.
        tasks, protocols, partitions, seeds: a row is made for each combination that fits together.
        reading: how tiles become inputs.
        level: of Sentinel-2, if it is known better.
        k: neighbours of `knn`.
        dense: how heads are trained.
        blocks: whose vectors are compared on validation; None: four at equal distances.
        experiment: a name for the table.
        features: the folder that keeps vectors.
    """

    suite: str
    data: Path
    tasks: tuple[str, ...]
    protocols: tuple[str, ...]
    partitions: tuple[str, ...]
    seeds: tuple[int, ...]
    reading: Reading
    level: S2Level | None
    k: int
    dense: DenseProtocol
    blocks: tuple[int, ...] | None
    experiment: str
    features: Path


@dataclass(frozen=True, eq=False)
class Subject:
    """The model that is scored.

    Attributes:
        name: for the table.
        hash: of its weights and configuration.
    """

    encoder: RawEncoder
    name: str
    hash: str


@dataclass(frozen=True, eq=False)
class _Job:
    """A task in one partition, with what is still to be scored."""

    task: BenchmarkTask
    inputs: TileInputs
    todo: tuple[tuple[str, int], ...]
    meter: Meter = field(default_factory=Meter)


def run_benchmark(subject: Subject, asked: Asked, rows: ResultRows, places: PretrainingPlaces | None) -> None:
    """Score a model on tasks of a suite. Rows that are there already are not computed again.

    Args:
        places: of the model's pretraining tiles, for the leak check.

    Raises:
        InputError: a task, its files, the model's modalities or its features do not allow it; finished rows stay.
    """
    jobs = list(_jobs(subject, asked, rows))
    for job in jobs:
        near = {test: places.nearness(job.task, test) for test in job.task.tests} if places is not None else {}
        for test, found in near.items():
            print(printable(_near_line(job.task, test, found)))
        features = TileFeatures(job.task, job.inputs, _WINDOWS[_device(subject).type], job.meter)
        for protocol, seed in job.todo:
            begun = time.perf_counter()
            before = Meter(job.meter.tiles, job.meter.seconds)
            scores = list(_scores(subject, asked, job, features, protocol, seed))
            spent = Meter(job.meter.tiles - before.tiles, job.meter.seconds - before.seconds)
            for score in scores:
                key = _key(subject, asked, job.task, protocol, seed, score.test)
                row = _row(asked, job, score, time.perf_counter() - begun, spent, near.get(score.test))
                rows.add({**key, **row, "backbone": subject.name, "peak memory MB": _peak_mb(_device(subject))})
                print(printable(_line(job.task, protocol, seed, score)))


def _jobs(subject: Subject, asked: Asked, rows: ResultRows) -> Iterator[_Job]:
    """The tasks with something to do, open and checked: what is wrong with one is said before hours are spent."""
    for partition in asked.partitions:
        for name in asked.tasks:
            task = open_task(asked.suite, asked.data, name, partition, asked.level)
            _check_splits(task)
            todo = tuple(
                (protocol, seed)
                for protocol in asked.protocols
                for seed in asked.seeds
                if protocol in task.info.protocols
                and not all(rows.has(_key(subject, asked, task, protocol, seed, test)) for test in task.tests)
            )
            if not todo:
                print(printable(f"{name}, {partition}: nothing to do"))
                continue
            inputs = tile_inputs(subject.encoder, task, asked.reading)
            for note in (*task.notes, *inputs.notes):
                print(printable(note))
            yield _Job(task, inputs, todo)


def _check_splits(task: BenchmarkTask) -> None:
    for split, ids in task.splits.items():
        if not ids:
            raise InputError(f"{task.info.name}, {task.partition}: split {split} has no samples: leave the task out")


def _scores(
    subject: Subject, asked: Asked, job: _Job, features: TileFeatures, protocol: str, seed: int
) -> Iterator[ScoredTest]:
    task, config, variant = job.task, subject.encoder.saved.config, subject.encoder.saved.variant
    if task.info.dense:
        yield from dense_scores(features, _dense(asked, protocol), seed)
        return
    blocks = asked.blocks or default_blocks(variant.depth)
    poolings = poolings_of(config.num_global_tokens)
    identity = {"model": subject.hash, "task": task.info.name, "suite": asked.suite, "inputs": _identity(job.inputs)}
    store = FeatureStore(asked.features, {**identity, "blocks": list(blocks), "poolings": list(poolings)})
    vectors = {split: features.vectors(ids, store, blocks, poolings) for split, ids in task.splits.items()}
    yield from vector_scores(task, vectors, VectorProtocol(protocol, asked.k), seed, _device(subject))


def _dense(asked: Asked, protocol: str) -> DenseProtocol:
    said = asked.dense
    return DenseProtocol(protocol, said.epochs, said.lr, said.weight_decay, said.batch_size, said.width, said.memory_gb)


def _identity(inputs: TileInputs) -> dict[str, Any]:
    """What vectors depend on beside weights and files, JSON-able."""
    stats = json.dumps(inputs.encoder.saved.band_stats, sort_keys=True)
    return {
        "modalities": inputs.modalities,
        "level": inputs.level,
        "grid": [inputs.grid.tile_hw, inputs.grid.window_hw, inputs.grid.count],
        "columns": {name: [[each.name, each.place] for each in row] for name, row in inputs.columns.items()},
        "shift": dict(inputs.shift),
        "offset": inputs.offset,
        "statistics": hashlib.blake2b(stats.encode(), digest_size=16).hexdigest(),
    }


def _key(subject: Subject, asked: Asked, task: BenchmarkTask, protocol: str, seed: int, test: str) -> dict[str, object]:
    return {
        "suite": asked.suite, "dataset": task.info.name, "test split": test, "partition name": task.partition,
        "decoder": protocol, "Seed": seed, "model": subject.hash[:16], "protocol": _settings(asked, protocol),
    }  # fmt: skip


def _settings(asked: Asked, protocol: str) -> str:
    """All that a score depends on and that no other column of the key says, in words."""
    reading = asked.reading
    said = [
        f"normalise={reading.normalisation}",
        f"window={reading.window or 'auto'}",
        f"level={asked.level or 'auto'}",
        f"offset={reading.offset:g}",
        *(f"substitute={target}={source}" for target, source in reading.substitutes),
    ]
    if protocol in VECTOR_PROTOCOLS:
        said += [f"k={asked.k}"] if protocol == "knn" else []
        said += [f"blocks={','.join(map(str, asked.blocks)) if asked.blocks else 'auto'}"]
    else:
        said += [f"epochs={asked.dense.epochs}", f"lr={asked.dense.lr:g}"]
        said += [f"width={asked.dense.width or 'auto'}"] if protocol == "upernet" else []
    return " ".join(said)


def _row(
    asked: Asked, job: _Job, score: ScoredTest, seconds: float, spent: Meter, near: Nearness | None
) -> dict[str, object]:
    info, task, found = job.task.info, job.task, score.interval
    worst, best = PUBLISHED.get(info.name, (None, None))
    return {
        "Metric": info.metric, "experiment_name": asked.experiment, "n_trials": score.trials,
        "data_percentages": _percent(task.partition), "batch_size": score.batch_size,
        "weight_decay": score.weight_decay, "lr": score.lr, "test metric": found.value, "ci low": found.low,
        "ci high": found.high, "normalised": normalised(info.name, found.value), "published worst": worst,
        "published best": best, "val metric": score.val_score, "choice": score.choice,
        "other metrics": " ".join(f"{name}={value:.6g}" for name, value in score.others.items()),
        "modalities": " ".join(job.inputs.modalities), "level": job.inputs.level if task.level else None,
        "normalisation": job.inputs.normalisation, "window": "x".join(map(str, job.inputs.grid.window_hw)),
        "train samples": len(task.splits[TRAIN]), "test samples": len(task.splits[score.test]),
        "places known": near.known if near else None, "near pretraining": near.near if near else None,
        "seconds": seconds, "tiles/s": spent.speed, "mmae version": __version__,
    }  # fmt: skip


def _percent(partition: str) -> float:
    found = _SHARE.fullmatch(partition)
    if found is None:
        return 100.0
    return 100 * float(found["part"]) if found["part"] else float(found["percent"])


def _peak_mb(device: torch.device) -> float:
    most = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else memory_of_this_process("VmHWM")
    return most / 1e6


def _device(subject: Subject) -> torch.device:
    return next(subject.encoder.model.parameters()).device


def _line(task: BenchmarkTask, protocol: str, seed: int, score: ScoredTest) -> str:
    found, relative = score.interval, normalised(task.info.name, score.interval.value)
    place = "" if relative is None else f", normalised {relative:.3f}"
    where = f"{task.info.name}, {task.partition}, {protocol}, seed {seed}, {score.test}"
    return f"{where}: {task.info.metric} {found.value:.4f} ({found.low:.4f} to {found.high:.4f}){place}; {score.choice}"


def _near_line(task: BenchmarkTask, test: str, found: Nearness) -> str:
    total = len(task.splits[test])
    if not found.known:
        return f"{task.info.name}, {test}: its files do not say where samples lie: no leak check"
    return (
        f"{task.info.name}, {test}: {found.near} of {found.known} samples with a known place lie within 1 km of a "
        f"pretraining tile ({total} samples)"
    )
