from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from mmae.evaluate.frozen.parts import Task
from mmae.evaluate.probe.residuals import left_over, predicted_by, terms
from mmae.evaluate.probe.task_rows import TaskRows


def rows_of(y: torch.Tensor, part: NDArray[np.int8]) -> TaskRows:
    numbers = np.arange(len(y))
    return TaskRows(Task("values", y.shape[1]), numbers, None, part, y, numbers, numbers)


def test_what_latitude_says_of_a_target_is_taken_away_by_a_fit_on_train_alone() -> None:
    lat = np.random.default_rng(0).uniform(-60, 60, (200, 1)).astype(np.float32)
    other = torch.randn(200, 1, generator=torch.Generator().manual_seed(0))
    y = torch.from_numpy(lat) / 30 + 0.1 * other
    part = (np.arange(200) % 3).astype(np.int8)
    rows = rows_of(y, part)
    left = left_over(rows, predicted_by(rows, terms("latitude", lat)))
    assert float(left.y_R.std()) < 0.2 * float(y.std())
    spoilt = y.clone()
    spoilt[torch.from_numpy(part == 2)] += 100
    again = predicted_by(rows_of(spoilt, part), terms("latitude", lat))
    torch.testing.assert_close(again, predicted_by(rows, terms("latitude", lat)))


def test_months_are_two_harmonics() -> None:
    angle = np.array([0.3, 2.0])
    found = terms("month", np.stack([np.sin(angle), np.cos(angle)], 1).astype(np.float32))
    wanted = np.stack([np.sin(angle), np.cos(angle), np.sin(2 * angle), np.cos(2 * angle)], 1)
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-6)
