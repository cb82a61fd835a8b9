"""Scores of pixels from a few counts a tile, so that a bootstrap over tiles needs no predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor

from mmae.evaluate.benchmark.tasks.benchmark_task import NOT_SCORED
from mmae.evaluate.frozen.metrics import Metric

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.evaluate.benchmark.tasks.benchmark_task import TaskInfo

RMSE: Final = "rmse"


@dataclass(frozen=True, eq=False)
class TileCounts:
    """Counts of a test's tiles.

    Attributes:
        rows: float64; classes (M, C, C): pixels of each true and chosen class; values (M, 2): sum of squared errors,
            and number of pixels.
        metric: `miou` or `rmse`.
    """

    rows: Tensor
    metric: str

    @staticmethod
    def of_classes(chosen_BHW: Tensor, labels_BHW: Tensor, classes: int) -> Tensor:
        """(B, C, C)."""
        scored_BHW = labels_BHW != NOT_SCORED
        tile_BHW = torch.arange(len(labels_BHW), device=labels_BHW.device)[:, None, None].expand_as(labels_BHW)
        cell = (tile_BHW * classes + labels_BHW) * classes + chosen_BHW
        counts = torch.bincount(cell[scored_BHW], minlength=len(labels_BHW) * classes**2)
        return counts.view(len(labels_BHW), classes, classes).double()

    @staticmethod
    def of_values(predicted_BHW: Tensor, labels_BHW: Tensor) -> Tensor:
        """(B, 2)."""
        known_BHW = torch.isfinite(labels_BHW)
        error_BHW = torch.where(known_BHW, predicted_BHW - labels_BHW.nan_to_num(), 0).double()
        return torch.stack([error_BHW.square().sum((1, 2)), known_BHW.sum((1, 2)).double()], dim=1)

    def others(self) -> dict[str, float]:
        """Further scores of the same counts."""
        if self.metric == RMSE:
            return {}
        counts_CC = self.rows.sum(0)
        return {"pixel_accuracy": float(counts_CC.diagonal().sum() / counts_CC.sum().clamp(min=1))}


def dense_metric(info: TaskInfo) -> Metric:
    """The metric of a task, on the rows of `TileCounts` in place of predictions."""
    if info.kind == "pixel_regression":
        return Metric(RMSE, ("values",), _rmse, "lower", "target")
    return Metric("miou", ("pixels",), _miou)


def _rmse(rows_M2: NDArray[Any], _: NDArray[Any]) -> float:
    squares, count = rows_M2.sum(0)
    return float(np.sqrt(squares / count)) if count else float("nan")


def _miou(rows_MCC: NDArray[Any], _: NDArray[Any]) -> float:
    """Over the classes that the labels hold."""
    counts_CC = rows_MCC.sum(0)
    both_C, true_C, chosen_C = counts_CC.diagonal(), counts_CC.sum(1), counts_CC.sum(0)
    there_C = true_C > 0
    if not there_C.any():
        return float("nan")
    return float((both_C[there_C] / (true_C + chosen_C - both_C)[there_C]).mean())
