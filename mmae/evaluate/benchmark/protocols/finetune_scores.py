"""What a fine-tuning left, as the score of a row: the number in `results.json`, and an interval from predictions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mmae.config.finetune_checks import FINETUNING
from mmae.disk.json_text import parse_json
from mmae.disk.regular_file import read_regular_text
from mmae.errors import InputError
from mmae.evaluate.benchmark.protocols.dense_score import dense_metric
from mmae.evaluate.benchmark.protocols.scored_test import ScoredTest
from mmae.evaluate.frozen.bootstrap import Interval, bootstrap
from mmae.evaluate.frozen.metrics import METRICS
from mmae.run.layout import CONFIG, LOG, MODEL, PREDICTIONS, RESULTS
from mmae.run.log_reader import LogRecords

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.evaluate.benchmark.tasks.benchmark_task import Kind, TaskInfo

_REMEDY = "remove that run folder, and start the same command again"


def read_scores(info: TaskInfo, run: Path, test: str, seed: int, trials: int, seconds: float) -> ScoredTest:
    """The score of a run that has ended.

    Args:
        run: its folder; with a search, that of the training after it.
        seed: of the bootstrap.
        seconds: that the command took.

    Raises:
        InputError: its files are damaged, or of another task or test.
    """
    path = run / RESULTS
    try:
        found = parse_json(read_regular_text(path))
        main, tested = found["main"], found["test"]
        config = FINETUNING.load(str(run / CONFIG), [])
        if (found["task"], config.data.test_split) != (info.name, test):
            raise ValueError(f"it is of {found['task']}, {config.data.test_split}")
        scores = {name: _number(value) for name, value in tested["scores"].items()}
        interval = _interval(info, run, _comparable(info, tested), seed)
        return ScoredTest(
            test, int(tested["tiles"]), interval, _number(found["val"]["scores"][main]), f"step {found['best_step']}",
            {name: value for name, value in scores.items() if name != info.metric or value != interval.value},
            trained=int(found["training_tiles"]), trials=trials,
            batch_size=config.train.global_batch, weight_decay=config.train.weight_decay, lr=config.train.lr,
            seconds=seconds, peak_mb=_peak_mb(run / LOG), modalities=_modalities(run / MODEL / "config.json"),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} cannot be used ({type(error).__name__}: {error}): {_REMEDY}") from None


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _comparable(info: TaskInfo, tested: Mapping[str, Any]) -> float:
    """The task's metric by the formula of a frozen encoder's rows: mIoU is over the classes that the test holds."""
    if info.kind != "segmentation":
        return _number(tested["scores"][info.metric])
    counts_1CC = torch.tensor(tested["confusion"], dtype=torch.float64)[None]
    return dense_metric(info).compute(counts_1CC, torch.zeros(1))


def _interval(info: TaskInfo, run: Path, score: float, seed: int) -> Interval:
    """The score with the spread of tests drawn again, where each tile has a prediction in a table; NaN elsewhere.

    Raises:
        ValueError: the table gives another score than the run says.
    """
    if info.dense:
        return Interval(score, float("nan"), float("nan"))
    predicted_NK, y = _predictions(run / PREDICTIONS / "test.parquet", info.kind)
    drawn = bootstrap(METRICS[info.metric], predicted_NK, y, seed=seed)
    if not np.isclose(drawn.value, score, rtol=1e-4, atol=1e-6, equal_nan=True):
        raise ValueError(f"{info.metric} is {score:g}, and {drawn.value:g} by {PREDICTIONS}/test.parquet")
    return Interval(score, drawn.low, drawn.high)


def _predictions(path: Path, kind: Kind) -> tuple[Tensor, Tensor]:
    """Predictions (N, K) and targets of the test's tiles with known labels, as `Metric` takes them."""
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    said = "prediction " if kind == "regression" else "probability "
    names = [name.removeprefix(said) for name in table.column_names if name.startswith(said)]
    predicted_NK = np.stack([table[f"{said}{name}"].to_numpy() for name in names], axis=1)
    if kind == "classification":
        places = {name: place for place, name in enumerate(names)}
        y = np.array([places.get(label, -1) for label in table["label"].to_pylist()], np.int64)
        known_N: NDArray[np.bool_] = y >= 0
    else:
        y = np.stack([table[f"label {name}"].to_numpy() for name in names], axis=1)
        known_N = np.asarray(np.isfinite(y).all(axis=1))
        y = y.astype(np.int64) if kind == "multilabel" else y
    return torch.from_numpy(predicted_NK[known_N]), torch.from_numpy(y[known_N])


def _peak_mb(log: Path) -> float | None:
    """The most memory that the training's first process had; None if it does not say."""
    peaks = [record.get("peak_memory_gb") for record in LogRecords(log).all("train")]
    return max((1e3 * peak for peak in peaks if peak is not None), default=None)


def _modalities(path: Path) -> tuple[str, ...]:
    return tuple(map(str, parse_json(read_regular_text(path))["model"]["in_domains"]))
