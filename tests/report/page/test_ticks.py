"""Numbers on axes."""

from __future__ import annotations

import pytest

from mmae.report.page.ticks import linear_ticks, log_ticks, short


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 300, [0, 100, 200, 300]),
        (-1, 1, [-1, -0.5, 0, 0.5, 1]),
        (0.00012, 0.00018, [0.00012, 0.00014, 0.00016, 0.00018]),
        (5, 5, [5]),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert linear_ticks(low, high) == pytest.approx(expected)


def test_logarithmic_ticks_are_digits_times_powers() -> None:
    assert log_ticks(0.9, 21) == pytest.approx([1, 2, 5, 10, 20])
    assert log_ticks(1e-6, 1e3) == pytest.approx([10.0**power for power in range(-6, 4)])
    assert len(log_ticks(1e-30, 1e30)) < 12
    assert len(log_ticks(3.1, 3.4)) > 1


def test_texts_are_short() -> None:
    assert [short(each) for each in (0, 0.25, 1500, 12_000, 3_400_000, 2e-5, float("nan"))] == [
        "0", "0.25", "1500", "12k", "3.4M", "2e-05", "not a number"
    ]  # fmt: skip
