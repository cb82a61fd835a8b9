"""Scores of a task by torchmetrics, over all ranks: sums and counts, so they do not depend on how tiles were spread.

Scores of classes come from one confusion matrix of integers. Averages over classes leave out classes that neither
labels nor predictions hold. Sums of regressions are float64.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import torch

from mmae.distributed.collectives import gather, world
from mmae.finetune.labelled.label_sources import UNKNOWN, known

if TYPE_CHECKING:
    from torch import Tensor

    from mmae.model.tuned.task import Task

MAIN: Final = {
    "classification": "accuracy",
    "multilabel": "micro_map",
    "segmentation": "miou",
    "regression": "rmse",
    "pixel_regression": "rmse",
}
"""The score that chooses, by kind of task."""
_THRESHOLD: Final = 0.5
_REGRESSION: Final = {"mse": 1, "mae": 1, "r2": 2}
"""Metrics of a regression, and the labels that each needs at least."""


@dataclass(frozen=True)
class TaskScores:
    """The scores of some tiles.

    Attributes:
        tiles: number of tiles.
        known: number of known labels: of tiles, or of pixels.
        scores: by name; None where no label is known.
        by_class: class (or target) -> its scores by name; None where a class occurs nowhere.
        confusion_KK: rows are labels, columns predictions; None where there are no classes.
    """

    tiles: int
    known: int
    scores: dict[str, float | None]
    by_class: dict[str, dict[str, float | None]] = field(default_factory=dict)
    confusion_KK: list[list[int]] | None = None

    def main(self, task: Task) -> float | None:
        """The score that chooses."""
        return self.scores[MAIN[task.kind]]


class Scorer:
    """Collects predictions of this rank; `compute` is collective."""

    def __init__(self, task: Task, device: torch.device) -> None:
        self._task = task
        self._tiles = torch.zeros(2, dtype=torch.int64, device=device)
        self._count_K = torch.zeros(task.outputs, dtype=torch.int64, device=device)
        self._metrics = {name: each.to(device) for name, each in _metrics(task).items()}
        for each in self._metrics.values():
            each.set_dtype(torch.float64)
        self._rows: list[tuple[Tensor, Tensor]] = []

    def update(self, predicted: Tensor, labels: Tensor, real_B: Tensor) -> None:
        """Count in a batch.

        Args:
            predicted: as `prediction` gives it: probabilities of classes (B, K, ...), or numbers in units.
            labels: as `LabelSource.labels` gives them; not known where a tile is not real.
        """
        known_labels = known(labels)
        self._tiles += torch.stack([real_B.sum(), known_labels.sum()])
        if not labels.is_floating_point():
            if known_labels.any():
                guess = predicted.argmax(1)[known_labels]
                self._metrics["confusion"].update(guess, labels[known_labels])
        elif self._task.kind == "multilabel":
            some_B = known_labels.any(1)
            ids = torch.where(known_labels, labels, UNKNOWN)[some_B].to(torch.int64)
            self._rows.append((predicted[some_B].float().cpu(), ids.cpu()))
        else:
            for place in range(self._task.outputs):
                chosen = known_labels[:, place]
                self._count_K[place] += chosen.sum()
                numbers = predicted[:, place][chosen].double(), labels[:, place][chosen].double()
                if len(numbers[0]):
                    for kind in _REGRESSION:
                        self._metrics[f"{kind} {place}"].update(*numbers)

    def compute(self) -> TaskScores:
        """The scores over all ranks. Collective."""
        tiles, count_K = self._tiles.clone(), self._count_K.clone()
        if world() > 1:
            torch.distributed.all_reduce(tiles)
            torch.distributed.all_reduce(count_K)
        count, known_count = tiles.tolist()
        with warnings.catch_warnings():
            # torchmetrics warns of ranks without labels, and of classes without a tile: both are handled here.
            warnings.simplefilter("ignore", UserWarning)
            if self._task.regression:
                return self._of_regression(count, known_count, count_K.tolist())
            if self._task.kind == "multilabel":
                return self._of_labels(count, known_count)
            confusion_KK = self._metrics["confusion"].compute().to("cpu", torch.int64)
        scores, by_class = class_scores(confusion_KK, self._task.classes)
        return TaskScores(count, known_count, scores, by_class, confusion_KK.tolist())

    def _of_labels(self, tiles: int, known_count: int) -> TaskScores:
        """Average precision needs all predictions at once, so every rank gets those of all."""
        from torchmetrics.functional import classification as of_classes

        parts = [part for ranks in gather(self._rows) for part in ranks]
        names = ("micro_f1", "macro_f1", "micro_map", "macro_map")
        if not sum(len(labels) for _, labels in parts):
            return TaskScores(tiles, 0, dict.fromkeys(names))
        predicted_NK, labels_NK = (torch.cat(column) for column in zip(*parts, strict=True))
        # Each class is scored on the tiles of which it is known.
        known_NK = labels_NK != UNKNOWN
        present_K = (labels_NK == 1).any(0)
        # A class without a tile has no average precision.
        each_K = torch.full((len(present_K),), torch.nan)
        for place in present_K.nonzero()[:, 0].tolist():
            rows = known_NK[:, place]
            each_K[place] = of_classes.binary_average_precision(predicted_NK[rows, place], labels_NK[rows, place])
        micro = torch.tensor(torch.nan)
        if present_K.any():
            micro = of_classes.binary_average_precision(predicted_NK[known_NK], labels_NK[known_NK])
        judged_K = known_NK.any(0)
        numbers = predicted_NK[:, judged_K], labels_NK[:, judged_K], int(judged_K.sum())
        f1 = partial(of_classes.multilabel_f1_score, *numbers, _THRESHOLD, ignore_index=UNKNOWN, validate_args=False)
        found = [f1(average="micro"), f1(average="macro"), micro]
        scores = dict(zip(names, map(_number, [*found, each_K.nanmean()]), strict=True))
        by_class = {
            name: {"average_precision": _number(each)} for name, each in zip(self._task.classes, each_K, strict=True)
        }
        return TaskScores(tiles, known_count, scores, by_class)

    def _of_regression(self, tiles: int, known_count: int, count_K: list[int]) -> TaskScores:
        by_target: dict[str, dict[str, float | None]] = {}
        for place, name in enumerate(self._task.targets):
            found = {
                kind: _number(self._metrics[f"{kind} {place}"].compute()) if count_K[place] >= least else None
                for kind, least in _REGRESSION.items()
            }
            mse = found.pop("mse")
            by_target[name] = {"rmse": None if mse is None else mse**0.5, **found}
        scores = {}
        for kind in ("rmse", "mae", "r2"):
            numbers = [number for each in by_target.values() if (number := each[kind]) is not None]
            scores[kind] = sum(numbers) / len(numbers) if numbers else None
        return TaskScores(tiles, known_count, scores, by_target)


def class_scores(
    confusion_KK: Tensor, classes: tuple[str, ...]
) -> tuple[dict[str, float | None], dict[str, dict[str, float | None]]]:
    """Scores of a confusion matrix of counts (rows: labels), over all classes and of each."""
    confusion_KK = confusion_KK.double()
    hit_K = confusion_KK.diagonal()
    label_K, guess_K = confusion_KK.sum(1), confusion_KK.sum(0)
    recall_K, union_K = hit_K / label_K, label_K + guess_K - hit_K
    f1_K, iou_K = 2 * hit_K / (label_K + guess_K), hit_K / union_K
    total = confusion_KK.sum()
    accuracy = _number(hit_K.sum() / total)
    scores = {
        "accuracy": accuracy,
        "balanced_accuracy": _number(recall_K.nanmean()),
        # With one label each, micro F1 is accuracy.
        "micro_f1": accuracy,
        "macro_f1": _number(f1_K.nanmean()),
        "miou": _number(iou_K.nanmean()),
    }
    by_class = {
        name: {"recall": _number(recall_K[place]), "f1": _number(f1_K[place]), "iou": _number(iou_K[place])}
        for place, name in enumerate(classes)
    }
    return scores, by_class


def _metrics(task: Task) -> dict[str, Any]:
    import torchmetrics

    if task.regression:
        return {
            f"{kind} {place}": metric()
            for place in range(task.outputs)
            for kind, metric in zip(
                _REGRESSION,
                (torchmetrics.MeanSquaredError, torchmetrics.MeanAbsoluteError, torchmetrics.R2Score),
                strict=True,
            )
        }
    if task.kind == "multilabel":
        return {}
    return {"confusion": torchmetrics.ConfusionMatrix("multiclass", num_classes=task.outputs, validate_args=False)}


def _number(value: Tensor) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None
