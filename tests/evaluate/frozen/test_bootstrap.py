from __future__ import annotations

import math

import pytest
import torch

from mmae.evaluate.frozen.bootstrap import bootstrap, difference
from mmae.evaluate.frozen.metrics import METRICS

ACCURACY, RMSE = METRICS["accuracy"], METRICS["rmse"]
RIGHT = torch.rand(100, generator=torch.Generator().manual_seed(0)) < 0.8
PREDICTION = torch.stack([RIGHT.double(), 1 - RIGHT.double()], dim=1)
TRUE = torch.zeros(100, dtype=torch.int64)


def test_the_interval_of_an_accuracy_is_about_that_of_the_binomial() -> None:
    found = bootstrap(ACCURACY, PREDICTION, TRUE, folds=2000)
    share = RIGHT.double().mean().item()
    half = 1.96 * math.sqrt(share * (1 - share) / 100)
    assert found.value == pytest.approx(share)
    assert found.low == pytest.approx(share - half, abs=0.015)
    assert found.high == pytest.approx(share + half, abs=0.015)


def test_rows_of_one_group_are_drawn_together_which_widens_the_interval() -> None:
    prediction, true = PREDICTION.repeat(10, 1), TRUE.repeat(10)
    alone = bootstrap(ACCURACY, prediction, true)
    grouped = bootstrap(ACCURACY, prediction, true, groups_M=torch.arange(100).repeat(10))
    once = bootstrap(ACCURACY, PREDICTION, TRUE)
    assert grouped.high - grouped.low == pytest.approx(once.high - once.low)
    assert alone.high - alone.low < 0.5 * (grouped.high - grouped.low)


def test_the_same_seed_draws_the_same_and_names_of_groups_do_not_matter() -> None:
    groups = torch.arange(100) // 4
    first = bootstrap(ACCURACY, PREDICTION, TRUE, groups)
    assert bootstrap(ACCURACY, PREDICTION, TRUE, 1000 - 7 * groups) == first
    assert bootstrap(ACCURACY, PREDICTION, TRUE, groups, seed=1) != first


def test_a_difference_is_above_0_where_the_first_is_better_whatever_the_metric() -> None:
    worse = PREDICTION.clone()
    worse[:50] = torch.tensor([0.0, 1.0], dtype=torch.float64)
    assert difference(ACCURACY, PREDICTION, worse, TRUE).low > 0
    y_MT = torch.arange(50.0)[:, None]
    found = difference(RMSE, y_MT + 1, y_MT + 3, y_MT)
    assert (found.value, found.low, found.high) == pytest.approx((2, 2, 2))


def test_equal_predictions_differ_by_nothing() -> None:
    found = difference(ACCURACY, PREDICTION, PREDICTION, TRUE)
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_a_score_that_is_not_defined_has_no_interval() -> None:
    constant = torch.ones(5, 1)
    found = bootstrap(METRICS["r2"], constant, constant)
    assert all(map(math.isnan, (found.value, found.low, found.high)))
