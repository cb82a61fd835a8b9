"""Scores of pixels from counts are those of the predictions themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmae.evaluate.benchmark.protocols.dense_score import TileCounts, dense_metric
from mmae.evaluate.benchmark.tasks.benchmark_task import TaskInfo
from mmae.evaluate.frozen.bootstrap import bootstrap

SEGMENTATION = TaskInfo("made-up", "segmentation", 5, "miou")
PIXELS = TaskInfo("made-up", "pixel_regression", 1, "rmse")


def test_the_iou_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import jaccard_score

    draws = np.random.default_rng(0)
    labels = draws.integers(0, 4, (6, 8, 8))  # class 4 does not occur
    chosen = np.where(draws.random((6, 8, 8)) < 0.6, labels, draws.integers(0, 4, (6, 8, 8)))
    labels[0, :2] = -1
    rows = TileCounts.of_classes(torch.from_numpy(chosen), torch.from_numpy(labels), 5)
    found = dense_metric(SEGMENTATION).compute(rows, torch.zeros(6))
    scored = labels != -1
    assert found == pytest.approx(jaccard_score(labels[scored], chosen[scored], average="macro", labels=range(4)))
    accuracy = TileCounts(rows, "miou").others()["pixel_accuracy"]
    assert accuracy == pytest.approx((chosen == labels)[scored].mean())


def test_the_error_is_over_all_measured_pixels() -> None:
    draws = np.random.default_rng(0)
    labels = draws.normal(size=(3, 4, 4)).astype(np.float32)
    predicted = draws.normal(size=(3, 4, 4)).astype(np.float32)
    labels[0] = np.nan
    labels[1, 0] = np.nan
    rows = TileCounts.of_values(torch.from_numpy(predicted), torch.from_numpy(labels))
    expected = np.sqrt(np.nanmean((predicted - labels) ** 2))
    assert dense_metric(PIXELS).compute(rows, torch.zeros(3)) == pytest.approx(expected, rel=1e-6)


def test_an_interval_is_of_tiles_drawn_again() -> None:
    labels = torch.zeros(10, 4, 4, dtype=torch.int64)
    labels[:, 2:] = 1
    good, bad = labels.clone(), 1 - labels
    rows = TileCounts.of_classes(torch.cat([good, bad]), torch.cat([labels, labels]), 5)
    found = bootstrap(dense_metric(SEGMENTATION), rows, torch.zeros(20))
    assert found.low < found.value < found.high
    assert found.value == pytest.approx(1 / 3)


def test_pixels_without_labels_have_no_score() -> None:
    rows = TileCounts.of_classes(torch.zeros(2, 4, 4, dtype=torch.int64), torch.full((2, 4, 4), -1), 5)
    assert np.isnan(dense_metric(SEGMENTATION).compute(rows, torch.zeros(2)))
    rows = TileCounts.of_values(torch.zeros(2, 4, 4), torch.full((2, 4, 4), torch.nan))
    assert np.isnan(dense_metric(PIXELS).compute(rows, torch.zeros(2)))
