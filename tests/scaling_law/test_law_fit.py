"""The fit on synthetic points, whose law is known."""

from __future__ import annotations

import numpy as np
import pytest

from mmae.errors import InputError
from mmae.scaling_law.law import Point
from mmae.scaling_law.law_fit import Fit, fit_law
from tests.support.synthetic_ladder import BUDGETS, LAW, SIZES, points


@pytest.fixture(scope="module")
def noisy() -> Fit:
    return fit_law(points(4, 4, noise=0.005), draws=60)


def test_points_without_noise_give_their_law_back() -> None:
    law = fit_law(points(4, 4), draws=2).law
    assert law.irreducible == pytest.approx(LAW.irreducible, rel=0.02)
    assert law.size_exponent == pytest.approx(LAW.size_exponent, rel=0.02)
    assert law.data_exponent == pytest.approx(LAW.data_exponent, rel=0.02)
    assert law.loss(SIZES[4], BUDGETS[4]) == pytest.approx(LAW.loss(SIZES[4], BUDGETS[4]), rel=0.002)


def test_the_next_size_lies_within_its_interval_and_near_the_prediction(noisy: Fit) -> None:
    found, true = noisy.predict(SIZES[4], BUDGETS[3]), LAW.loss(SIZES[4], BUDGETS[3])
    assert found.low <= true <= found.high
    assert found.loss == pytest.approx(true, rel=0.03)
    assert 0.01 < found.width < 0.1
    assert noisy.noise == pytest.approx(0.005, abs=0.004)


def test_an_outlier_moves_a_robust_fit_little() -> None:
    spoilt = points(4, 4, noise=0.002)
    spoilt[5] = Point(spoilt[5].size, spoilt[5].parameters, spoilt[5].tiles, 1.5 * spoilt[5].loss)
    assert fit_law(spoilt, draws=2).law.loss(SIZES[4], BUDGETS[3]) == pytest.approx(
        LAW.loss(SIZES[4], BUDGETS[3]), rel=0.04
    )


def test_the_interval_grows_with_the_distance_and_the_noise(noisy: Fit) -> None:
    near, far = (noisy.predict(times * SIZES[3], times * BUDGETS[3]).width for times in (1, 1000))
    assert far > 1.5 * near
    louder = fit_law(points(4, 4, noise=0.03), draws=60)
    assert louder.predict(SIZES[4], BUDGETS[3]).width > 2 * noisy.predict(SIZES[4], BUDGETS[3]).width


def test_the_same_points_and_seed_give_the_same_fit() -> None:
    one, two = (fit_law(points(3, 3, noise=0.01), draws=3) for _ in range(2))
    assert one.draws == two.draws
    assert one.shifts.tolist() == two.shifts.tolist()


def test_too_few_points_and_impossible_losses_are_refused() -> None:
    for sizes, budgets in ((1, 4), (4, 1), (1, 1)):
        with pytest.raises(InputError, match="too few points"):
            fit_law(points(sizes, budgets))
    with pytest.raises(InputError, match="above 0"):
        fit_law([*points(3, 3), Point("odd", 10, 10, 0.0)])


@pytest.mark.slow
def test_about_nine_of_ten_new_runs_end_within_the_interval() -> None:
    held = 0
    for seed in range(60):
        fit = fit_law(points(3, 3, noise=0.02, seed=seed), draws=80, seed=seed)
        found = fit.predict(SIZES[3], BUDGETS[2])
        reached = LAW.loss(SIZES[3], BUDGETS[2]) * np.exp(0.02 * np.random.default_rng(1000 + seed).normal())
        held += found.low <= reached <= found.high
    # 54 when it was written.
    assert 48 <= held < 60
