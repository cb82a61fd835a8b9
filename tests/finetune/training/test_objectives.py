"""Losses: against torch's own, over any split of a batch, and blind to what is not known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mmae.finetune.labelled.census import count_labels
from mmae.finetune.labelled.tuning_samples import Samples
from mmae.finetune.training.mixing import Mixed
from mmae.finetune.training.objectives import Objective
from mmae.model.tuned.task import Task
from mmae.types import Inputs
from tests.support.tuning_case import tuning_config

CPU = torch.device("cpu")
THREE = Task("classification", "kind", classes=("a", "b", "c"), ignore=-1)
MAP = Task("segmentation", "kind", classes=("a", "b", "c"), ignore=-1)
LABELS = Task("multilabel", "kinds", classes=("a", "b", "c"))
HEIGHT = Task("regression", "height", targets=("height",), units=("m",), mean=(10.0,), std=(4.0,))


def mixed(labels: Tensor, others: Tensor | None = None, share_B: Tensor | None = None) -> Mixed:
    nothing = torch.empty(0)
    share_B = torch.ones(len(labels)) if share_B is None else share_B
    return Mixed(Samples(Inputs({}, {}, {}, nothing, nothing), labels), others, share_B)


def objective(task: Task, *words: str, train: Tensor | None = None) -> Objective:
    labels = torch.tensor([0, 1, 2]) if train is None else train
    head = "patch_linear" if task.dense else "linear"
    config = tuning_config(f"task.kind={task.kind}", f"model.head={head}", *words).task
    return Objective(task, config, count_labels(labels, len(labels), task.outputs), CPU)


def mean_loss(found: Objective, outputs: Tensor, each: Mixed) -> Tensor:
    return found.loss(outputs, each) / found.weight(each)


@pytest.mark.parametrize("words", [(), ("task.label_smoothing=0.1",), ("task.class_weights=balanced",)])
def test_classes_have_the_cross_entropy_of_torch(words: tuple[str, ...]) -> None:
    outputs, labels = torch.randn(6, 3), torch.tensor([0, 2, -1, 1, 1, 2])
    train = torch.tensor([0] * 6 + [1] * 3 + [2])
    weight = torch.tensor([10 / 18, 10 / 9, 10 / 3]) if "balanced" in str(words) else None
    smoothing = 0.1 if "smoothing" in str(words) else 0.0
    found = mean_loss(objective(THREE, *words, train=train), outputs, mixed(labels))
    if smoothing:
        expected = functional.cross_entropy(outputs, labels, ignore_index=-1, label_smoothing=smoothing)
    else:
        expected = functional.cross_entropy(outputs, labels, weight, ignore_index=-1)
    torch.testing.assert_close(found, expected.double(), rtol=1e-6, atol=1e-6)


def test_a_class_without_a_training_label_weighs_nothing() -> None:
    found = objective(THREE, "task.class_weights=balanced", train=torch.tensor([0, 0, 1]))
    assert found.weight(mixed(torch.tensor([2, 2]))) == 0
    assert found.loss(torch.randn(2, 3), mixed(torch.tensor([2, 2]))) == 0


def test_maps_several_labels_and_numbers_have_the_losses_of_torch() -> None:
    outputs, labels = torch.randn(2, 3, 4, 4), torch.randint(-1, 3, (2, 4, 4))
    expected = functional.cross_entropy(outputs, labels, ignore_index=-1)
    torch.testing.assert_close(
        mean_loss(objective(MAP), outputs, mixed(labels)), expected.double(), rtol=1e-6, atol=1e-6
    )
    scores, several = torch.randn(4, 3), torch.randint(0, 2, (4, 3)).float()
    expected = functional.binary_cross_entropy_with_logits(scores, several)
    found = mean_loss(objective(LABELS), scores, mixed(several))
    torch.testing.assert_close(found, expected.double(), rtol=1e-6, atol=1e-6)
    numbers, metres = torch.randn(5, 1), torch.randn(5, 1) * 9
    scaled = (metres - 10) / 4
    for word, function in (("l2", functional.mse_loss), ("l1", functional.l1_loss)):
        found = mean_loss(objective(HEIGHT, f"task.regression_loss={word}"), numbers, mixed(metres))
        torch.testing.assert_close(found, function(numbers, scaled).double(), rtol=1e-6, atol=1e-6)


def test_berhu_is_linear_near_zero_and_quadratic_beyond() -> None:
    found = objective(HEIGHT, "task.regression_loss=berhu")
    for error, loss in ((0.5, 0.5), (1.0, 1.0), (-3.0, 5.0)):
        outputs = torch.tensor([[error]])
        assert mean_loss(found, outputs, mixed(torch.tensor([[10.0]]))).item() == pytest.approx(loss)


def test_labels_that_are_not_known_give_no_loss_and_no_gradient() -> None:
    outputs = torch.randn(3, 1, requires_grad=True)
    found, each = objective(HEIGHT), mixed(torch.tensor([[12.0], [torch.nan], [torch.nan]]))
    loss = found.loss(outputs, each)
    (gradient,) = torch.autograd.grad(loss, outputs)
    assert torch.isfinite(loss)
    assert found.weight(each) == 1
    assert gradient[1:].tolist() == [[0], [0]]


def test_two_labels_count_by_their_shares() -> None:
    outputs, one, other = torch.randn(4, 3), torch.tensor([0, 1, 2, 0]), torch.tensor([2, 2, 1, 1])
    share = torch.tensor([0.25, 0.5, 1.0, 0.0])
    found = mean_loss(objective(THREE), outputs, mixed(one, other, share))
    soft = functional.one_hot(one, 3) * share[:, None] + functional.one_hot(other, 3) * (1 - share[:, None])
    torch.testing.assert_close(found, functional.cross_entropy(outputs, soft).double(), rtol=1e-6, atol=1e-6)


def test_parts_of_a_batch_add_up_to_the_whole() -> None:
    outputs, labels = torch.randn(8, 3), torch.tensor([0, -1, 2, 1, -1, -1, -1, 0])
    found = objective(THREE, "task.class_weights=balanced", train=torch.tensor([0, 0, 1, 2]))
    halves = [(outputs[part], mixed(labels[part])) for part in (slice(0, 4), slice(4, 8))]
    total = sum(found.weight(each) for _, each in halves)
    loss = sum(found.loss(part, each) for part, each in halves) / total
    torch.testing.assert_close(loss, mean_loss(found, outputs, mixed(labels)), rtol=1e-6, atol=1e-6)
