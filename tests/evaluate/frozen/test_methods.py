from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge as Reference

from mmae.errors import InputError
from mmae.evaluate.frozen.methods import Knn, Logistic, Ridge, check_kind
from mmae.evaluate.frozen.parts import Part, Task


def part_of_values(rows: int = 60) -> Part:
    generator = torch.Generator().manual_seed(0)
    x_ND = torch.randn(rows, 5, generator=generator)
    y_NT = x_ND[:, :2] * torch.tensor([1.0, 500.0]) + torch.tensor([0.0, 2000.0])
    return Part(x_ND, y_NT + torch.randn(rows, 2, generator=generator))


def test_ridge_is_that_of_scikit_learn_on_standardised_targets() -> None:
    train = part_of_values()
    found = list(Ridge((0.1, 50.0)).predictions(Task("values", 2), train, train.x_ND, (0.1, 50.0)))
    x_ND, y_NT = train.x_ND.double().numpy(), train.y.double().numpy()
    mean, deviation = y_NT.mean(0), y_NT.std(0)
    for alpha, prediction in zip((0.1, 50.0), found, strict=True):
        fitted = Reference(alpha, solver="cholesky").fit(x_ND, (y_NT - mean) / deviation)
        np.testing.assert_allclose(prediction.numpy(), fitted.predict(x_ND) * deviation + mean, rtol=1e-9)


def test_ridge_predicts_one_target_and_one_that_is_constant() -> None:
    train = part_of_values()
    constant = Part(train.x_ND, torch.full((60, 1), 7.0))
    (found,) = Ridge().predictions(Task("values", 1), constant, train.x_ND[:3], (1.0,))
    torch.testing.assert_close(found, torch.full((3, 1), 7.0, dtype=torch.float64))


def test_each_setting_gives_one_prediction_in_its_order() -> None:
    train = Part(part_of_values().x_ND, torch.arange(60) % 3)
    task = Task("classes", 3)
    several = list(Knn((1.0, 20.0)).predictions(task, train, train.x_ND, (1.0, 20.0)))
    assert torch.equal(several[0].argmax(1), train.y)
    assert torch.equal(several[1], next(iter(Knn().predictions(task, train, train.x_ND, (20.0,)))))
    strong, weak = Logistic().predictions(task, train, train.x_ND, (1e-6, 10.0))
    assert float(strong.std()) < float(weak.std())


def test_a_method_for_other_targets_is_refused() -> None:
    check_kind(Ridge(), Task("values", 1))
    with pytest.raises(InputError, match="ridge predicts values, and the targets are classes"):
        check_kind(Ridge(), Task("classes", 3))
