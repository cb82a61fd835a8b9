"""Lines from records."""

from __future__ import annotations

import math

import pytest

from mmae.report.series import MOST_POINTS, line_of, number_at, number_paths
from tests.support.reported_run import step_record


def test_few_records_are_points_and_what_is_no_number_is_a_gap() -> None:
    records = [step_record(1, loss=2), step_record(2, loss=None), step_record(3, loss=math.nan), step_record(4, loss=1)]
    line = line_of("a", records, ("loss",), scale=100)
    assert (line.x, line.y, line.low) == ([1, 2, 3, 4], [200, None, None, 100], ())
    assert len(line) == 2
    assert line_of("a", [{"step": 1, "loss": 3}], ("loss_mean",), ("loss",)).y == [3]


def test_many_records_are_means_between_the_lowest_and_the_highest() -> None:
    records = [{"step": step, "loss": float(step % 10)} for step in range(1, 1501)]
    line = line_of("a", records, ("loss",))
    assert len(line.x) == MOST_POINTS
    assert set(line.low) == {0.0}
    assert set(line.high) == {9.0}
    assert [y for y in line.y if y is not None] == pytest.approx([4.5] * MOST_POINTS)


def test_every_number_has_a_path() -> None:
    record = {"step": 1, "scores": {"semseg": {"accuracy": 0.5, "name": "x"}, "good": True}, "failed": {"a": 1}}
    assert number_paths([record, {"more": 2}], frozenset({"step", "failed"})) == [
        ("scores", "semseg", "accuracy"), ("more",)
    ]  # fmt: skip
    assert number_at(record, ("scores", "semseg", "accuracy")) == 0.5
    assert number_at(record, ("scores", "semseg", "name")) is None
    assert number_at(record, ("step", "x")) is None
