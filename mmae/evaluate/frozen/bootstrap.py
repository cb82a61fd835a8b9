"""Bootstrap intervals: the spread of a score over test sets drawn again, and of the difference of two scores.

Rows that are not independent, such as tiles of one place, are drawn together as a group; otherwise the interval would
promise too much.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor

from mmae.evaluate.frozen.metrics import Metric

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDS: Final = 200


@dataclass(frozen=True)
class Interval:
    """A score on the whole test set, and the bounds within which it lies in 95 % of the draws; NaN: not defined."""

    value: float
    low: float
    high: float


def bootstrap(
    metric: Metric, prediction: Tensor, y: Tensor, groups_M: Tensor | None = None, folds: int = FOLDS, seed: int = 0
) -> Interval:
    """The interval of a score.

    Args:
        groups_M: int64, the group of each row; None: each row is a group.
        folds: how often a test set is drawn.
    """
    values = [metric.compute(prediction[rows], y[rows]) for rows in _draws(groups_M, len(y), folds, seed)]
    return _interval(metric.compute(prediction, y), values)


def difference(
    metric: Metric,
    first: Tensor,
    second: Tensor,
    y: Tensor,
    groups_M: Tensor | None = None,
    folds: int = FOLDS,
    seed: int = 0,
) -> Interval:
    """By how much the first prediction is better than the second: above 0 is better, whatever the metric.

    Both are scored on the same draws, so that what is hard for both does not widen the interval.
    """
    sign = 1 if metric.better == "higher" else -1

    def gain(rows: Tensor | slice) -> float:
        return sign * (metric.compute(first[rows], y[rows]) - metric.compute(second[rows], y[rows]))

    return _interval(gain(slice(None)), [gain(rows) for rows in _draws(groups_M, len(y), folds, seed)])


def _draws(groups_M: Tensor | None, count: int, folds: int, seed: int) -> Iterator[Tensor]:
    """Rows of test sets: as many groups as there are, drawn with replacement."""
    groups = np.arange(count) if groups_M is None else groups_M.cpu().numpy()
    _, first_row, group_M = np.unique(groups, return_index=True, return_inverse=True)
    # Groups are numbered by their first row, not by the value that names them.
    number_G = np.argsort(np.argsort(first_row))
    rows = _rows_of(number_G[group_M], len(first_row))
    generator = np.random.default_rng(seed)
    for _ in range(folds):
        yield torch.from_numpy(np.concatenate([rows[each] for each in generator.integers(0, len(rows), len(rows))]))


def _rows_of(group_M: NDArray[np.int64], groups: int) -> list[NDArray[np.int64]]:
    order = np.argsort(group_M, kind="stable")
    return np.split(order, np.searchsorted(group_M[order], np.arange(1, groups)))


def _interval(value: float, values: list[float]) -> Interval:
    known = [each for each in values if not np.isnan(each)]
    if np.isnan(value) or not known:
        return Interval(value, float("nan"), float("nan"))
    low, high = np.percentile(known, [2.5, 97.5])
    return Interval(value, float(low), float(high))
