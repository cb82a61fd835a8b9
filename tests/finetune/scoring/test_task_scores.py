"""Scores against scikit-learn, in any batches, with labels that are not known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import metrics
from torch import Tensor

from mmae.finetune.scoring.task_scores import Scorer, TaskScores
from mmae.model.tuned.task import Task

CPU = torch.device("cpu")
FOUR = Task("classification", "kind", classes=("a", "b", "c", "d"), ignore=-1)
LABELS = Task("multilabel", "kinds", classes=("a", "b", "c"))
TWO = Task("regression", "n", targets=("x", "y"), units=("m", "m"), mean=(0.0, 0.0), std=(1.0, 1.0))


def scored(task: Task, predicted: Tensor, labels: Tensor, parts: int = 3) -> TaskScores:
    scorer = Scorer(task, CPU)
    for guess, label in zip(predicted.chunk(parts), labels.chunk(parts), strict=True):
        scorer.update(guess, label, torch.ones(len(guess), dtype=torch.bool))
    return scorer.compute()


def test_classes_are_scored_as_by_scikit_learn() -> None:
    labels = torch.tensor([0, 1, 2, 0, 1, 1, 2, 2, 0, 0, -1])
    guesses = torch.tensor([0, 1, 1, 0, 2, 1, 2, 0, 0, 1, 3])
    found = scored(FOUR, torch.eye(4)[guesses], labels)
    true, said = labels[:-1].numpy(), guesses[:-1].numpy()
    assert found.scores["accuracy"] == pytest.approx(metrics.accuracy_score(true, said))
    assert found.scores["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(true, said))
    assert found.scores["micro_f1"] == pytest.approx(metrics.f1_score(true, said, average="micro"))
    assert found.scores["macro_f1"] == pytest.approx(metrics.f1_score(true, said, average="macro"))
    assert found.scores["miou"] == pytest.approx(metrics.jaccard_score(true, said, average="macro"))
    assert found.confusion_KK == metrics.confusion_matrix(true, said, labels=range(4)).tolist()
    assert found.by_class["d"] == {"recall": None, "f1": None, "iou": None}
    assert found.by_class["a"]["iou"] == pytest.approx(metrics.jaccard_score(true, said, labels=[0], average=None)[0])
    assert (found.tiles, found.known) == (11, 10)
    assert found.main(FOUR) == found.scores["accuracy"]


def test_several_labels_are_scored_as_by_scikit_learn() -> None:
    draw = torch.Generator().manual_seed(0)
    predicted = torch.rand(40, 3, generator=draw)
    labels = torch.randint(0, 2, (40, 3), generator=draw).float()
    labels[:, 2] = 0
    labels[7] = torch.nan
    found = scored(LABELS, predicted, labels)
    rows = [row for row in range(40) if row != 7]
    true, said = labels[rows].int().numpy(), predicted[rows].numpy()
    by_class = metrics.average_precision_score(true[:, :2], said[:, :2], average=None)
    assert found.scores["micro_map"] == pytest.approx(
        metrics.average_precision_score(true, said, average="micro"), rel=1e-5
    )
    assert found.scores["macro_map"] == pytest.approx(by_class.mean(), rel=1e-5)
    assert found.scores["micro_f1"] == pytest.approx(metrics.f1_score(true, said > 0.5, average="micro"), rel=1e-5)
    assert found.by_class["a"]["average_precision"] == pytest.approx(by_class[0], rel=1e-5)
    assert found.by_class["c"]["average_precision"] is None


def test_each_of_several_labels_is_scored_where_it_is_known() -> None:
    draw = torch.Generator().manual_seed(1)
    predicted = torch.rand(60, 3, generator=draw)
    labels = torch.randint(0, 2, (60, 3), generator=draw).float()
    labels[torch.rand(60, 3, generator=draw) < 0.4] = torch.nan
    labels[:10, 0] = torch.nan
    found = scored(LABELS, predicted, labels)
    known = labels.isfinite()
    each = [
        metrics.average_precision_score(labels[known[:, place], place], predicted[known[:, place], place])
        for place in range(3)
    ]
    f1 = [
        metrics.f1_score(labels[known[:, place], place], predicted[known[:, place], place] >= 0.5) for place in range(3)
    ]
    assert found.scores["macro_map"] == pytest.approx(np.mean(each), abs=1e-6)
    assert found.scores["micro_map"] == pytest.approx(
        metrics.average_precision_score(labels[known], predicted[known]), abs=1e-6
    )
    assert found.scores["macro_f1"] == pytest.approx(np.mean(f1), abs=1e-6)
    assert found.scores["micro_f1"] == pytest.approx(
        metrics.f1_score(labels[known], predicted[known] >= 0.5, average="binary"), abs=1e-6
    )


def test_a_class_that_is_nowhere_known_is_in_no_score() -> None:
    labels = torch.tensor([[1.0, torch.nan, 0.0], [0.0, torch.nan, 0.0]])
    found = scored(LABELS, torch.tensor([[0.9, 0.1, 0.1], [0.2, 0.9, 0.3]]), labels, parts=1)
    assert found.scores == {"micro_f1": 1.0, "macro_f1": 0.5, "micro_map": 1.0, "macro_map": 1.0}
    assert [found.by_class[name]["average_precision"] for name in "abc"] == [1.0, None, None]


def test_numbers_are_scored_as_by_scikit_learn() -> None:
    draw = torch.Generator().manual_seed(0)
    labels = torch.randn(30, 2, generator=draw) * 5 + 1000
    predicted = labels + torch.randn(30, 2, generator=draw)
    labels[3, 0] = torch.nan
    found = scored(TWO, predicted, labels)
    for column, name in enumerate(TWO.targets):
        known = torch.isfinite(labels[:, column]).numpy()
        true, said = labels[:, column].double().numpy()[known], predicted[:, column].double().numpy()[known]
        assert found.by_class[name]["rmse"] == pytest.approx(np.sqrt(metrics.mean_squared_error(true, said)), rel=1e-9)
        assert found.by_class[name]["mae"] == pytest.approx(metrics.mean_absolute_error(true, said), rel=1e-9)
        assert found.by_class[name]["r2"] == pytest.approx(metrics.r2_score(true, said), rel=1e-6)
    both = [found.by_class[name]["rmse"] for name in TWO.targets]
    assert found.scores["rmse"] == pytest.approx(np.mean(np.array(both, float)))


@pytest.mark.parametrize("task", [FOUR, LABELS, TWO])
def test_batches_do_not_matter(task: Task) -> None:
    draw = torch.Generator().manual_seed(0)
    predicted = torch.rand(24, task.outputs, generator=draw)
    labels = (
        torch.randint(0, 4, (24,), generator=draw)
        if task is FOUR
        else torch.randint(0, 2, (24, task.outputs), generator=draw).float()
    )
    one, many = scored(task, predicted, labels, 1), scored(task, predicted, labels, 8)
    for name, value in one.scores.items():
        assert many.scores[name] == pytest.approx(value, rel=1e-12), name


@pytest.mark.parametrize("task", [FOUR, LABELS, TWO])
def test_without_a_known_label_there_is_no_score(task: Task) -> None:
    labels = torch.full((6,), -1) if task is FOUR else torch.full((6, task.outputs), torch.nan)
    found = scored(task, torch.rand(6, task.outputs), labels)
    assert set(found.scores.values()) == {None}
    assert found.known == 0
    assert found.main(task) is None


def test_one_number_has_errors_and_no_r2() -> None:
    found = scored(TWO, torch.tensor([[3.0, 1.0]]), torch.tensor([[1.0, torch.nan]]), 1)
    assert found.by_class["x"] == {"rmse": 2.0, "mae": 2.0, "r2": None}
    assert found.by_class["y"] == {"rmse": None, "mae": None, "r2": None}


def test_maps_are_scored_pixel_by_pixel() -> None:
    task = Task("segmentation", "kind", classes=("a", "b"), ignore=-1)
    labels = torch.tensor([[[0, 1], [1, -1]]])
    predicted = torch.tensor([[[[0.9, 0.2], [0.7, 0.5]], [[0.1, 0.8], [0.3, 0.5]]]])
    found = scored(task, predicted, labels, 1)
    assert found.confusion_KK == [[1, 0], [1, 1]]
    assert found.scores["miou"] == pytest.approx((1 / 2 + 1 / 2) / 2)
    assert (found.tiles, found.known) == (1, 3)
