"""Scores of predictions: those of scikit-learn, with what they leave open decided in one place."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from torch import Tensor

from mmae.evaluate.frozen.parts import NO_LABEL, Kind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]


@dataclass(frozen=True)
class Metric:
    """Attributes:
    kinds: of targets that it scores.
    better: whether a higher or a lower score is better.
    scale: `unit`, a share or coefficient; `target`, in the units of the targets.
    score: (prediction, targets) -> score; predictions as in `methods.py`, targets as in `parts.py`, at least one row.
    """

    name: str
    kinds: tuple[Kind, ...]
    score: Callable[[Array, Array], float]
    better: Literal["higher", "lower"] = "higher"
    scale: Literal["unit", "target"] = "unit"

    def compute(self, prediction: Tensor, y: Tensor) -> float:
        """The score of tensors on any device; NaN where it is not defined, as R2 of constant targets."""
        return self.score(prediction.double().cpu().numpy(), y.cpu().numpy())

    def is_better(self, first: float, second: float) -> bool:
        """Whether the first score is better than the second. No score is better than one that is NaN, or NaN itself."""
        if np.isnan(first) or np.isnan(second):
            return bool(np.isnan(second) and not np.isnan(first))
        return first > second if self.better == "higher" else first < second


def _accuracy(prediction_MC: Array, y_M: Array) -> float:
    return float((prediction_MC.argmax(1) == y_M).mean())


def _balanced_accuracy(prediction_MC: Array, y_M: Array) -> float:
    chosen_M = prediction_MC.argmax(1)
    return float(np.mean([(chosen_M[y_M == of] == of).mean() for of in np.unique(y_M)]))


def _f1(average: str) -> Callable[[Array, Array], float]:
    def score(prediction_MC: Array, y: Array) -> float:
        from sklearn.metrics import f1_score

        if y.ndim == 1:
            return float(f1_score(y, prediction_MC.argmax(1), average=average, labels=np.unique(y), zero_division=0))
        there_C = y.any(0)
        if not there_C.any():
            return float("nan")
        chosen_MC = prediction_MC > 0.5
        if average == "macro":
            chosen_MC, y = chosen_MC[:, there_C], y[:, there_C]
        return float(f1_score(y, chosen_MC, average=average, zero_division=0))

    return score


def _average_precision(average: str) -> Callable[[Array, Array], float]:
    def score(prediction_MC: Array, y_MC: Array) -> float:
        from sklearn.metrics import average_precision_score

        there_C = y_MC.any(0)
        if not there_C.any():
            return float("nan")
        if average == "macro":
            prediction_MC, y_MC = prediction_MC[:, there_C], y_MC[:, there_C]
        return float(average_precision_score(y_MC, prediction_MC, average=average))

    return score


def _labelled(prediction_MQC: Array, y_MQ: Array) -> tuple[Array, Array]:
    """Chosen and true class of each label pixel that has a class."""
    there_MQ = y_MQ != NO_LABEL
    return prediction_MQC[there_MQ].argmax(-1), y_MQ[there_MQ]


def _pixel_accuracy(prediction_MQC: Array, y_MQ: Array) -> float:
    chosen, true = _labelled(prediction_MQC, y_MQ)
    return float((chosen == true).mean()) if len(true) else float("nan")


def _miou(prediction_MQC: Array, y_MQ: Array) -> float:
    chosen, true = _labelled(prediction_MQC, y_MQ)
    if not len(true):
        return float("nan")
    classes = prediction_MQC.shape[-1]
    counts_CC = np.bincount(true * classes + chosen, minlength=classes**2).reshape(classes, classes)
    both_C, true_C, chosen_C = counts_CC.diagonal(), counts_CC.sum(1), counts_CC.sum(0)
    there_C = true_C > 0
    return float((both_C[there_C] / (true_C + chosen_C - both_C)[there_C]).mean())


def _rmse(prediction_MT: Array, y_MT: Array) -> float:
    return float(np.sqrt(np.square(prediction_MT - y_MT).mean()))


def _mae(prediction_MT: Array, y_MT: Array) -> float:
    return float(np.abs(prediction_MT - y_MT).mean())


def _r2(prediction_MT: Array, y_MT: Array) -> float:
    from sklearn.exceptions import UndefinedMetricWarning
    from sklearn.metrics import r2_score

    if len(y_MT) < 2 or not bool((y_MT.std(0) > 0).all()):
        return float("nan")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        return float(r2_score(y_MT, prediction_MT))


METRICS: Final = MappingProxyType(
    {
        metric.name: metric
        for metric in (
            Metric("accuracy", ("classes",), _accuracy),
            # Over the classes that the targets hold.
            Metric("balanced_accuracy", ("classes",), _balanced_accuracy),
            Metric("micro_f1", ("classes", "labels"), _f1("micro")),
            Metric("macro_f1", ("classes", "labels"), _f1("macro")),
            Metric("micro_map", ("labels",), _average_precision("micro")),
            Metric("macro_map", ("labels",), _average_precision("macro")),
            Metric("miou", ("pixels",), _miou),
            Metric("pixel_accuracy", ("pixels",), _pixel_accuracy),
            Metric("rmse", ("values",), _rmse, "lower", "target"),
            Metric("mae", ("values",), _mae, "lower", "target"),
            # Its mean over the targets.
            Metric("r2", ("values",), _r2),
        )
    }
)
"""By name. Macro averages, balanced accuracy and mIoU are over the classes that the targets hold."""

DEFAULT_METRIC: Final[MappingProxyType[Kind, str]] = MappingProxyType(
    {"classes": "accuracy", "labels": "micro_map", "values": "rmse", "pixels": "miou"}
)
