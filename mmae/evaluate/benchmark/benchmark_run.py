"""One run of `mmae benchmark`: opens all tasks first, and then adds a row for each score as soon as it is known."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import torch

from mmae.errors import InputError
from mmae.evaluate.benchmark.encoding.tile_features import Meter, TileFeatures
from mmae.evaluate.benchmark.encoding.tile_inputs import TileInputs, tile_inputs
from mmae.evaluate.benchmark.encoding.vector_work import VectorWork, compute
from mmae.evaluate.benchmark.open_suite import open_task
from mmae.evaluate.benchmark.protocols.dense_protocols import DenseProtocol, dense_scores
from mmae.evaluate.benchmark.protocols.finetune_protocol import TunedModel, check_recipe, finetuned_score
from mmae.evaluate.benchmark.protocols.vector_protocols import VectorProtocol, vector_scores
from mmae.evaluate.benchmark.row_contents import (
    data_hash,
    input_columns,
    key_of,
    near_columns,
    near_line,
    score_columns,
    score_line,
    tuned_columns,
)
from mmae.evaluate.benchmark.tasks.benchmark_task import FINETUNE
from mmae.evaluate.frozen.feature_store import FeatureStore
from mmae.evaluate.frozen.token_vectors import default_blocks, poolings_of
from mmae.processes import memory_of_this_process
from mmae.terminal.printable import printable

if TYPE_CHECKING:
    from mmae.evaluate.benchmark.asked import Asked, Subject
    from mmae.evaluate.benchmark.near_pretraining import Nearness, PretrainingPlaces
    from mmae.evaluate.benchmark.protocols.scored_test import ScoredTest
    from mmae.evaluate.benchmark.result_rows import ResultRows
    from mmae.evaluate.benchmark.tasks.benchmark_task import BenchmarkTask

_WINDOWS: Final = MappingProxyType({"cuda": 256, "cpu": 16})
"""Windows that are encoded at once."""
_VERSION: Final = 2
"""Of how vectors are computed: another number leaves those that are kept alone."""


@dataclass(frozen=True, eq=False)
class _Job:
    """A task in one partition, with what is still to be scored.

    Attributes:
        data: which samples it has here.
        inputs: None if no frozen encoder is to be scored.
        todo: protocol and seed.
    """

    task: BenchmarkTask
    data: str
    inputs: TileInputs | None
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
        _tell_near(subject, asked, job, rows, near)
        for protocol, seed in job.todo:
            begun = time.perf_counter()
            before = Meter(job.meter.tiles, job.meter.seconds)
            if protocol == FINETUNE:
                # Each is a training of hours, and so a row at once.
                scores = _tuned_scores(subject, asked, job, rows, seed)
            else:
                scores = iter(list(_scores(subject, asked, job, protocol, seed)))
            for score in scores:
                spent = Meter(job.meter.tiles - before.tiles, job.meter.seconds - before.seconds)
                rows.add({
                    **key_of(subject, asked, job.task, job.data, protocol, seed, score.test),
                    **score_columns(asked, job.task, protocol, score),
                    **(tuned_columns(job.task, score) if protocol == FINETUNE else _input_columns(job)),
                    **(near_columns(near[score.test]) if near else {}), "backbone": subject.name,
                    "seconds": score.seconds or time.perf_counter() - begun, "tiles/s": spent.speed,
                    "peak memory MB": score.peak_mb if protocol == FINETUNE else _peak_mb(_device(subject)),
                })  # fmt: skip
                print(printable(score_line(job.task, protocol, seed, score)))


def _jobs(subject: Subject, asked: Asked, rows: ResultRows) -> Iterator[_Job]:
    """The tasks, open and checked: what is wrong with one is said before hours are spent."""
    for partition in asked.partitions:
        for name in asked.tasks:
            task = open_task(asked.suite, asked.data, name, partition, asked.level)
            _check_splits(task)
            data = data_hash(task)
            todo = tuple(
                (protocol, seed)
                for protocol, seed in _wanted(asked, task)
                if not all(rows.has(key_of(subject, asked, task, data, protocol, seed, test)) for test in task.tests)
            )
            if not todo:
                print(printable(f"{name}, {partition}: nothing to do"))
                yield _Job(task, data, None, todo)
                continue
            if any(protocol == FINETUNE for protocol, _ in todo):
                check_recipe(task, _tuned_model(subject, asked), asked.finetune)
            frozen = any(protocol != FINETUNE for protocol, _ in todo)
            inputs = tile_inputs(subject.encoder, task, asked.reading) if frozen else None
            for note in (*task.notes, *(inputs.notes if inputs else ())):
                print(printable(note))
            yield _Job(task, data, inputs, todo)


def _wanted(asked: Asked, task: BenchmarkTask) -> list[tuple[str, int]]:
    return [(each, seed) for each in asked.protocols if each in task.info.protocols for seed in asked.seeds]


def _check_splits(task: BenchmarkTask) -> None:
    for split, ids in task.splits.items():
        if not ids:
            raise InputError(f"{task.info.name}, {task.partition}: split {split} has no samples: leave the task out")


def _tell_near(subject: Subject, asked: Asked, job: _Job, rows: ResultRows, near: dict[str, Nearness]) -> None:
    """Print the leak check, and write it into rows that were finished without one."""
    for test, found in near.items():
        print(printable(near_line(job.task, test, found)))
        for protocol, seed in _wanted(asked, job.task):
            key = key_of(subject, asked, job.task, job.data, protocol, seed, test)
            if rows.has(key):
                rows.amend(key, near_columns(found))


def _input_columns(job: _Job) -> dict[str, object]:
    assert job.inputs is not None
    return input_columns(job.task, job.inputs)


def _tuned_scores(subject: Subject, asked: Asked, job: _Job, rows: ResultRows, seed: int) -> Iterator[ScoredTest]:
    """Fine-tuned scores of the tests that have no row yet."""
    for test in job.task.tests:
        key = key_of(subject, asked, job.task, job.data, FINETUNE, seed, test)
        if not rows.has(key):
            model, said = _tuned_model(subject, asked), json.dumps(key, sort_keys=True)
            yield finetuned_score(job.task, model, asked.finetune, test, seed, said)


def _tuned_model(subject: Subject, asked: Asked) -> TunedModel:
    reading, inputs = asked.reading, subject.encoder.saved.config.in_domains
    return TunedModel(
        subject.location, inputs, asked.suite, asked.data, asked.level, reading.normalisation, reading.check_units,
        subject.trust,
    )  # fmt: skip


def _scores(subject: Subject, asked: Asked, job: _Job, protocol: str, seed: int) -> Iterator[ScoredTest]:
    assert job.inputs is not None
    features = TileFeatures(job.task, job.inputs, _WINDOWS[_device(subject).type], job.meter)
    task, config, variant = job.task, subject.encoder.saved.config, subject.encoder.saved.variant
    if task.info.dense:
        yield from dense_scores(features, _dense(asked, protocol), seed)
        return
    blocks = asked.blocks or default_blocks(variant.depth)
    poolings = poolings_of(config.num_global_tokens)
    identity = {"model": subject.hash, "task": task.info.name, "suite": asked.suite, "version": _VERSION,
                "inputs": _identity(features.inputs), "blocks": list(blocks), "poolings": list(poolings)}  # fmt: skip
    store = FeatureStore(asked.features, identity)
    work = VectorWork(features, store, blocks, poolings, subject.location, subject.trust, asked.devices)
    compute(work, asked.features)
    vectors = {split: work.vectors(ids) for split, ids in task.splits.items()}
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


def _peak_mb(device: torch.device) -> float:
    most = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else memory_of_this_process("VmHWM")
    return most / 1e6


def _device(subject: Subject) -> torch.device:
    return next(subject.encoder.model.parameters()).device
