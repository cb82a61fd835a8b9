"""Bad fits are said to be bad, and what was left out is predicted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mmae.scaling_law.fit_checks import held_out, problems
from mmae.scaling_law.law import Law
from mmae.scaling_law.law_fit import fit_law
from tests.support.synthetic_ladder import LAW, NAMES, SIZES, points


def test_a_good_ladder_has_no_problem() -> None:
    assert problems(fit_law(points(5, 5, noise=0.001), draws=60)) == []


@pytest.mark.parametrize(
    ("sizes", "budgets", "law", "noise", "words"),
    [
        (2, 4, LAW, 0.001, "too few points: 2 sizes"),
        (4, 4, Law(0.15, 8.0, 0.35, 0.0001, 0.4), 0.01, "no effect of tiles"),
        (4, 4, Law(1.0, 0.001, 0.1, 12.0, 0.4), 0.01, "no effect of size"),
        (3, 3, Law(1e-6, 4.0, 0.1, 4.0, 0.1), 0.03, "no curvature"),
        (3, 3, LAW, 0.15, "an interval wider than the effect"),
    ],
)
def test_what_makes_a_fit_bad_is_said(sizes: int, budgets: int, law: Law, noise: float, words: str) -> None:
    said = problems(fit_law(points(sizes, budgets, noise, law, seed=2), draws=25))
    assert any(words in line for line in said), said


def test_losses_that_rise_where_a_law_falls_are_said() -> None:
    found = points(4, 4, noise=0.001)
    found[7] = replace(found[7], loss=1.5 * found[7].loss)  # micro, after the most tiles
    said = problems(fit_law(found, draws=2))
    assert any("the loss rises with more tiles in 1 of 12 steps (the first: micro at 32,000" in line for line in said)
    assert any("the loss rises with more parameters in 1 of 12 steps" in line for line in said)


def test_the_largest_size_and_the_most_tiles_are_left_out_and_predicted() -> None:
    found, missing = held_out(points(4, 4, noise=0.003), draws=40)
    assert missing == []
    assert [each.point.parameters for each in found if each.group == f"size {NAMES[3]}"] == [SIZES[3]] * 4
    assert len(found) == 8
    assert max(abs(each.off) for each in found) < 0.03
    # The four of a group share the error of one fit: with these seeds 12 of 16 lie within.
    other, _ = held_out(points(4, 4, noise=0.003, seed=2), draws=40)
    assert sum(each.inside for each in (*found, *other)) >= 10


def test_what_cannot_be_left_out_is_said() -> None:
    found, missing = held_out(points(2, 3), draws=2)
    assert len(found) == 2
    assert len(missing) == 1
    assert "size micro cannot be left out: too few points" in missing[0]
