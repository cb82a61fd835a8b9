from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from mmae.evaluate.frozen.logistic import fit_logistic, probabilities
from mmae.evaluate.frozen.parts import NO_LABEL, Part, Task


def part_of_classes(rows: int = 150, classes: int = 4, dim: int = 6) -> Part:
    generator = torch.Generator().manual_seed(0)
    y_N = torch.arange(rows) % classes
    centres_CD = torch.randn(classes, dim, generator=generator)
    return Part(centres_CD[y_N] + 1.5 * torch.randn(rows, dim, generator=generator), y_N)


@pytest.mark.parametrize("c", [1e-3, 1.0, 100.0])
def test_the_optimum_is_that_of_scikit_learn(c: float) -> None:
    train = part_of_classes()
    fitted = fit_logistic(Task("classes", 4), train, c)
    reference = LogisticRegression(C=c, tol=1e-12, max_iter=10_000, solver="newton-cholesky")
    reference.fit(train.x_ND.double().numpy(), train.y.numpy())
    np.testing.assert_allclose(fitted.weight_OD.numpy(), reference.coef_, atol=2e-4 * np.abs(reference.coef_).max())
    found = probabilities(Task("classes", 4), fitted(train.x_ND))
    np.testing.assert_allclose(found.numpy(), reference.predict_proba(train.x_ND.double().numpy()), atol=1e-4)


def test_labels_are_so_many_separate_regressions() -> None:
    train = part_of_classes()
    y_NC = torch.stack([train.y == 0, train.y < 2], dim=1)
    fitted = fit_logistic(Task("labels", 2), Part(train.x_ND, y_NC), 1.0)
    for label in range(2):
        reference = LogisticRegression(C=1.0, tol=1e-12, max_iter=10_000, solver="newton-cholesky")
        reference.fit(train.x_ND.double().numpy(), y_NC[:, label].numpy())
        np.testing.assert_allclose(fitted.weight_OD[label].numpy(), reference.coef_[0], atol=1e-4)
        np.testing.assert_allclose(fitted.bias_O[label].item(), reference.intercept_[0], atol=1e-4)


def test_pixels_without_a_label_are_not_fitted_and_each_pixel_has_its_own_weights() -> None:
    train = part_of_classes()
    other_N = (train.y + 1) % 4
    y_NQ = torch.stack([train.y, other_N], dim=1)
    y_NQ[100:, 1] = NO_LABEL
    task = Task("pixels", 4)
    fitted = fit_logistic(task, Part(train.x_ND, y_NQ), 1.0)
    first = fit_logistic(Task("classes", 4), train, 1.0)
    second = fit_logistic(Task("classes", 4), Part(train.x_ND[:100], other_N[:100]), 1.0)
    found = probabilities(task, fitted(train.x_ND))
    assert found.shape == (150, 2, 4)
    for pixel, alone in enumerate((first, second)):
        reference = probabilities(Task("classes", 4), alone(train.x_ND))
        torch.testing.assert_close(found[:, pixel], reference, atol=2e-4, rtol=0)


def test_a_start_elsewhere_leads_to_the_same_optimum() -> None:
    train, task = part_of_classes(), Task("classes", 4)
    direct = fit_logistic(task, train, 10.0)
    warm = fit_logistic(task, train, 10.0, fit_logistic(task, train, 1e-3))
    torch.testing.assert_close(warm.weight_OD, direct.weight_OD, atol=1e-3, rtol=0)


def test_the_order_of_rows_does_not_matter() -> None:
    train, task = part_of_classes(), Task("classes", 4)
    turned = train[torch.randperm(len(train), generator=torch.Generator().manual_seed(1))]
    first, second = (fit_logistic(task, each, 1.0).weight_OD for each in (train, turned))
    torch.testing.assert_close(first, second, atol=1e-5, rtol=0)


def test_gradients_that_the_caller_turned_off_are_needed_and_stay_off_for_the_caller() -> None:
    with torch.no_grad():
        fitted = fit_logistic(Task("classes", 4), part_of_classes(), 1.0)
        assert not torch.is_grad_enabled()
    assert float(fitted.weight_OD.abs().max()) > 0
