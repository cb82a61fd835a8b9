from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from sklearn import metrics as reference
from torchmetrics.functional.classification import multiclass_jaccard_index, multilabel_average_precision

from mmae.evaluate.frozen.metrics import DEFAULT_METRIC, METRICS
from mmae.evaluate.frozen.parts import NO_LABEL

GENERATOR = torch.Generator().manual_seed(0)
SCORES = torch.rand(80, 4, generator=GENERATOR, dtype=torch.float64)
CLASSES = torch.randint(0, 3, (80,), generator=GENERATOR)
LABELS = torch.rand(80, 4, generator=GENERATOR) > 0.7


def score(name: str, prediction: torch.Tensor, y: torch.Tensor) -> float:
    return METRICS[name].compute(prediction, y)


def test_scores_of_classes_are_those_of_scikit_learn() -> None:
    chosen, true = SCORES.argmax(1).numpy(), CLASSES.numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class is predicted that no target has
        balanced = reference.balanced_accuracy_score(true, chosen)
    assert score("accuracy", SCORES, CLASSES) == pytest.approx(reference.accuracy_score(true, chosen))
    assert score("balanced_accuracy", SCORES, CLASSES) == pytest.approx(balanced)
    macro = reference.f1_score(true, chosen, average="macro", labels=[0, 1, 2])
    assert score("macro_f1", SCORES, CLASSES) == pytest.approx(macro)


def test_average_precision_is_that_of_torchmetrics() -> None:
    for average in ("micro", "macro"):
        found = multilabel_average_precision(SCORES, LABELS.long(), 4, average=average)
        assert score(f"{average}_map", SCORES, LABELS) == pytest.approx(float(found), abs=1e-6)


def test_a_label_that_no_row_has_is_left_out_of_macro_averages() -> None:
    without = LABELS.clone()
    without[:, 3] = False
    for name in ("macro_map", "macro_f1"):
        assert score(name, SCORES, without) == pytest.approx(score(name, SCORES[:, :3], without[:, :3]))
    assert math.isnan(score("micro_map", SCORES, torch.zeros_like(LABELS)))


def test_miou_is_that_of_torchmetrics_over_the_classes_there_are() -> None:
    prediction = torch.rand(40, 4, 5, generator=GENERATOR, dtype=torch.float64)
    y_MQ = torch.randint(0, 5, (40, 4), generator=GENERATOR)
    y_MQ[5:9] = NO_LABEL
    there = y_MQ != NO_LABEL
    found = multiclass_jaccard_index(prediction.argmax(-1)[there], y_MQ[there], 5)
    assert score("miou", prediction, y_MQ) == pytest.approx(float(found), abs=1e-6)
    accuracy = (prediction.argmax(-1)[there] == y_MQ[there]).double().mean()
    assert score("pixel_accuracy", prediction, y_MQ) == pytest.approx(float(accuracy))
    assert math.isnan(score("miou", prediction[5:9], y_MQ[5:9]))


def test_scores_of_values_are_those_of_scikit_learn() -> None:
    y_MT, prediction = SCORES[:, :2], SCORES[:, 2:]
    assert score("rmse", prediction, y_MT) == pytest.approx(np.sqrt(reference.mean_squared_error(y_MT, prediction)))
    assert score("mae", prediction, y_MT) == pytest.approx(reference.mean_absolute_error(y_MT, prediction))
    assert score("r2", prediction, y_MT) == pytest.approx(reference.r2_score(y_MT, prediction))
    assert math.isnan(score("r2", prediction, torch.ones(80, 2)))


def test_what_is_better() -> None:
    accuracy, rmse = METRICS["accuracy"], METRICS["rmse"]
    assert accuracy.is_better(0.9, 0.8)
    assert not accuracy.is_better(0.8, 0.8)
    assert rmse.is_better(1.0, 2.0)
    assert rmse.is_better(1.0, math.nan)
    assert not rmse.is_better(math.nan, 1.0)
    assert not rmse.is_better(math.nan, math.nan)


def test_each_kind_of_targets_has_a_metric_for_it() -> None:
    assert all(kind in METRICS[name].kinds for kind, name in DEFAULT_METRIC.items())
