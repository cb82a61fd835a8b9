from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from mmae.errors import InputError
from mmae.model.tuned.finetuned_model import prediction
from mmae.model.tuned.task import Task
from tests.support.finetuned_models import COVER, HEIGHT, LABELS, SCENE, SOIL


@pytest.mark.parametrize(("task", "outputs", "dense"), [
    (COVER, 3, True), (SCENE, 2, False), (LABELS, 3, False), (HEIGHT, 1, True), (SOIL, 2, False),
])  # fmt: skip
def test_a_task_knows_its_outputs(task: Task, outputs: int, dense: bool) -> None:
    task.check()
    assert (task.outputs, task.dense) == (outputs, dense)


def test_classes_become_probabilities() -> None:
    logits = torch.randn(4, 3, 5, 5)
    torch.testing.assert_close(prediction(COVER, logits).sum(1), torch.ones(4, 5, 5))
    assert torch.equal(prediction(LABELS, logits[:, :, 0, 0]), torch.sigmoid(logits[:, :, 0, 0]))


def test_numbers_come_back_in_their_units() -> None:
    assert prediction(SOIL, torch.tensor([[0.0, 0.0], [2.0, -1.0]])).tolist() == [[6.0, 50.0], [7.0, 30.0]]
    assert torch.equal(prediction(HEIGHT, torch.full((1, 1, 2, 2), 2.0)), torch.full((1, 1, 2, 2), 30.0))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"kind": "segmentation", "classes": ("a",)}, "needs 2 classes at least, and 1 are named"),
        ({"kind": "classification", "classes": ("a", "a")}, "the same name"),
        ({"kind": "classification", "classes": ("a", "b"), "class_codes": (1, 1)}, "one number a class, each once"),
        ({"kind": "segmentation", "classes": ("a", "b"), "ignore": 1}, "ignore=1 is the id of the class 'b'"),
        ({"kind": "segmentation", "classes": ("a", "b"), "units": ("m",)}, "has classes, and no targets"),
        ({"kind": "regression"}, "has targets, and no classes"),
        ({"kind": "regression", "targets": ("a",), "units": ("m",), "mean": (0.0,)}, "std has 0 entries for 1 targets"),
    ],
)
def test_contradictions_are_refused(words: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Task(name="t", **words).check()


@pytest.mark.parametrize("words", [{"name": "../t"}, {"name": ""}, {"name": "a/b"}, {"kind": "other"}, {"std": (0.0,)}])
def test_values_of_other_kinds_are_refused(words: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Task(**{"kind": "regression", "name": "t", **words})
