"""Averaged and best weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mmae.errors import InputError
from mmae.finetune.training.averaged_weights import AveragedWeights, Best


def model_of(value: float) -> nn.Linear:
    model = nn.Linear(2, 1)
    nn.init.constant_(model.weight, value)
    nn.init.constant_(model.bias, value)
    return model


def set_to(model: nn.Linear, value: float) -> None:
    with torch.no_grad():
        model.weight.fill_(value)
        model.bias.fill_(value)


def test_the_average_follows_the_weights_and_forgets_faster_in_the_beginning() -> None:
    model = model_of(0.0)
    average = AveragedWeights(model, 0.9)
    expected = 0.0
    for step in range(1, 200):
        set_to(model, float(step))
        average.update(step)
        decay = min(0.9, step / (step + 9))
        expected = decay * expected + (1 - decay) * step
    assert average.state()["weight"][0, 0].item() == pytest.approx(expected, rel=1e-5)


def test_the_model_has_the_average_within_the_context_only_also_after_an_error() -> None:
    model = model_of(0.0)
    average = AveragedWeights(model, 0.5)
    set_to(model, 10.0)
    average.update(1)
    seen: list[float] = []

    def look() -> None:
        with average.applied():
            seen.append(model.weight[0, 0].item())
            raise KeyError

    with pytest.raises(KeyError):
        look()
    assert seen == pytest.approx([9.0])
    assert model.weight[0, 0].item() == 10
    assert average.state()["weight"][0, 0].item() == pytest.approx(9.0)


def test_without_a_decay_there_is_no_average() -> None:
    model = model_of(1.0)
    average = AveragedWeights(model, 0.0)
    average.update(1)
    assert average.state() == {}
    with average.applied():
        assert model.weight[0, 0].item() == 1


def test_frozen_weights_are_not_averaged() -> None:
    model = model_of(1.0)
    model.weight.requires_grad_(False)
    assert set(AveragedWeights(model, 0.9).state()) == {"bias"}


@pytest.mark.parametrize(
    ("higher", "scores", "step"), [(True, [0.1, 0.3, 0.3, 0.2], 2), (False, [5.0, 4.0, 6.0, None], 2)]
)
def test_the_best_is_the_first_with_the_best_score(higher: bool, scores: list[float | None], step: int) -> None:
    model, best = model_of(0.0), Best(higher)
    taken = []
    for number, score in enumerate(scores, 1):
        set_to(model, float(number))
        taken.append(best.offer(number, score, model))
    assert taken == [True, True, False, False]
    assert (best.step, best.without) == (step, 2)
    best.apply(model)
    assert model.weight[0, 0].item() == step


def test_no_score_is_no_best() -> None:
    best = Best(higher=True)
    assert not best.offer(1, None, model_of(0.0))
    with pytest.raises(InputError, match="no validation gave a score"):
        best.apply(model_of(0.0))
