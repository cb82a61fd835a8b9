"""Logistic regression by L-BFGS: classes, labels, and the pixels of a patch, with scikit-learn's objective.

    C * sum of cross-entropies + |W|^2 / 2          the bias is not penalised

In float64 on the device of the features, from zero or from the solution of another C.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from mmae.evaluate.frozen.parts import NO_LABEL, Part, Task

DEFAULT_CS: Final = tuple(sorted((float(c) for c in np.logspace(-6, 4, 11)), key=lambda c: abs(math.log(c))))
"""Strengths of the fit: the smaller, the stronger the penalty. Moderate ones come first: a tie on validation is decided
by the order, few rows tie often, and with the strongest penalty a fit predicts one class."""

_MOST_STEPS: Final = 200
_TOLERANCE: Final = 1e-6
"""Of the largest entry of the gradient, for an objective divided by C times the number of rows."""


@dataclass(frozen=True, eq=False)
class Linear:
    """A linear map: weight (O, D) and bias (O,), float64; O are classes, labels, or Q pixels times C classes."""

    weight_OD: Tensor
    bias_O: Tensor

    def __call__(self, x_MD: Tensor) -> Tensor:
        return x_MD.double() @ self.weight_OD.T + self.bias_O


def outputs_of(task: Task, y: Tensor) -> int:
    """The number O of logits a row."""
    return task.outputs * (y.shape[1] if task.kind == "pixels" else 1)


def fit_logistic(task: Task, train: Part, c: float, start: Linear | None = None) -> Linear:
    """The optimum for a strength C.

    Args:
        task: of kind `classes`, `labels` or `pixels`.
        train: at least one row.
        c: the weight of the data against the penalty, above 0.
        start: where the search begins; None: at zero.
    """
    x_ND, y = train.x_ND.double(), train.y
    shape = (outputs_of(task, y), x_ND.shape[1])
    weight_OD = torch.zeros(shape, dtype=torch.float64, device=x_ND.device) if start is None else start.weight_OD
    bias_O = weight_OD.new_zeros(shape[0]) if start is None else start.bias_O
    weight_OD, bias_O = (each.clone().requires_grad_() for each in (weight_OD, bias_O))
    solver = torch.optim.LBFGS(
        [weight_OD, bias_O],
        max_iter=_MOST_STEPS,
        history_size=20,
        tolerance_grad=_TOLERANCE,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )
    rows = max(1, len(x_ND))

    def objective() -> Tensor:
        solver.zero_grad()
        logits_NO = x_ND @ weight_OD.T + bias_O
        value = _loss_sum(task, logits_NO, y) / rows + weight_OD.square().sum() / (2 * c * rows)
        torch.autograd.backward(value)
        return value

    with torch.enable_grad():
        solver.step(objective)  # type: ignore[no-untyped-call]
    return Linear(weight_OD.detach(), bias_O.detach())


def probabilities(task: Task, logits_MO: Tensor) -> Tensor:
    """Of classes (M, C), labels (M, C) or the classes of pixels (M, Q, C)."""
    if task.kind == "labels":
        return logits_MO.sigmoid()
    if task.kind == "pixels":
        return logits_MO.view(len(logits_MO), -1, task.outputs).softmax(-1)
    return logits_MO.softmax(1)


def _loss_sum(task: Task, logits_NO: Tensor, y: Tensor) -> Tensor:
    if task.kind == "labels":
        return binary_cross_entropy_with_logits(logits_NO, y.double(), reduction="sum")
    if task.kind == "pixels":
        return cross_entropy(logits_NO.view(-1, task.outputs), y.flatten(), ignore_index=NO_LABEL, reduction="sum")
    return cross_entropy(logits_NO, y, reduction="sum")
