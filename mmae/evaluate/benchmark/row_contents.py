"""What stands in the columns of a row: its key, its score, and how the score came about."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final

from mmae.evaluate.benchmark.published_scores import PUBLISHED, normalised
from mmae.evaluate.benchmark.tasks.benchmark_task import FINETUNE, TRAIN, VALID, VECTOR_PROTOCOLS
from mmae.version import __version__

if TYPE_CHECKING:
    from mmae.evaluate.benchmark.asked import Asked, Subject
    from mmae.evaluate.benchmark.encoding.tile_inputs import TileInputs
    from mmae.evaluate.benchmark.near_pretraining import Nearness
    from mmae.evaluate.benchmark.protocols.scored_test import ScoredTest
    from mmae.evaluate.benchmark.tasks.benchmark_task import BenchmarkTask

_SHARE: Final = re.compile(r"(?P<part>\d+(?:\.\d+)?)x_train|(?P<percent>\d+)%")
_HASH: Final = 16


def data_hash(task: BenchmarkTask) -> str:
    """Which samples a task has here, and how they are read: another copy of a suite may hold others."""
    return task.fingerprint([name for ids in task.splits.values() for name in ids])[:_HASH]


def key_of(
    subject: Subject, asked: Asked, task: BenchmarkTask, data: str, protocol: str, seed: int, test: str
) -> dict[str, object]:
    """The columns by which a row is found again."""
    return {
        "suite": asked.suite, "dataset": task.info.name, "test split": test, "partition name": task.partition,
        "decoder": protocol, "Seed": seed, "model": subject.hash[:_HASH], "data": data,
        "protocol": _settings(asked, protocol),
    }  # fmt: skip


def _settings(asked: Asked, protocol: str) -> str:
    """All that a score depends on and that no other column of the key says, in words."""
    reading = asked.reading
    if protocol == FINETUNE:
        said = [f"normalise={reading.normalisation}", f"level={asked.level or 'auto'}"]
        return " ".join([*said, f"search={asked.finetune.search}", *asked.finetune.decisive])
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


def score_columns(asked: Asked, task: BenchmarkTask, protocol: str, score: ScoredTest) -> dict[str, object]:
    """The score and what it is compared with."""
    info, found = task.info, score.interval
    experiment = asked.experiment or (FINETUNE if protocol == FINETUNE else "frozen")
    worst, best = PUBLISHED.get(info.name, (None, None))
    return {
        "Metric": info.metric, "experiment_name": experiment, "n_trials": score.trials,
        "data_percentages": _percent(task.partition), "batch_size": score.batch_size,
        "weight_decay": score.weight_decay, "lr": score.lr, "test metric": found.value, "ci low": _bound(found.low),
        "ci high": _bound(found.high), "normalised": normalised(info.name, found.value), "published worst": worst,
        "published best": best, "val metric": score.val_score, "choice": score.choice,
        "other metrics": " ".join(f"{name}={value:.6g}" for name, value in score.others.items()),
        "train samples": len(task.splits[TRAIN]) if score.trained is None else score.trained,
        "test samples": score.samples, "test without data": score.empty.get(score.test),
        "mmae version": __version__,
    }  # fmt: skip


def _bound(value: float) -> float | None:
    return None if math.isnan(value) else value


def input_columns(task: BenchmarkTask, inputs: TileInputs) -> dict[str, object]:
    """How tiles became inputs."""
    return {
        "modalities": " ".join(inputs.modalities), "level": inputs.level if task.level else None,
        "normalisation": inputs.normalisation, "window": "x".join(map(str, inputs.grid.window_hw)),
    }  # fmt: skip


def tuned_columns(task: BenchmarkTask, score: ScoredTest) -> dict[str, object]:
    """What a fine-tuned model saw."""
    return {"modalities": " ".join(score.modalities), "level": task.level}


def near_columns(near: Nearness) -> dict[str, object]:
    """The leak check."""
    return {"places known": near.known, "near pretraining": near.near}


def _percent(partition: str) -> float:
    found = _SHARE.fullmatch(partition)
    if found is None:
        return 100.0
    return 100 * float(found["part"]) if found["part"] else float(found["percent"])


def score_line(task: BenchmarkTask, protocol: str, seed: int, score: ScoredTest) -> str:
    """A row, to print."""
    found, relative = score.interval, normalised(task.info.name, score.interval.value)
    place = "" if relative is None else f", normalised {relative:.3f}"
    where = f"{task.info.name}, {task.partition}, {protocol}, seed {seed}, {score.test}"
    spread = "" if math.isnan(found.low) else f" ({found.low:.4f} to {found.high:.4f})"
    missed = [f"{score.empty[split]} of {split}" for split in (TRAIN, VALID, score.test) if score.empty.get(split)]
    without = f"; left out, as no input holds data: {', '.join(missed)}" if missed else ""
    return f"{where}: {task.info.metric} {found.value:.4f}{spread}{place}; {score.choice}{without}"


def near_line(task: BenchmarkTask, test: str, found: Nearness) -> str:
    """The leak check, to print."""
    total = len(task.splits[test])
    if not found.known:
        return f"{task.info.name}, {test}: its files do not say where samples lie: no leak check"
    return (
        f"{task.info.name}, {test}: {found.near} of {found.known} samples with a known place lie within 1 km of a "
        f"pretraining tile ({total} samples)"
    )
