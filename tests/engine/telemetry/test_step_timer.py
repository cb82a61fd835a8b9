"""Where a rank's time goes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mmae.engine.telemetry import step_timer as clocks
from mmae.engine.telemetry.step_timer import StepTimer
from mmae.types import Batch


class Time:
    """A clock that only the test moves."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time()
    monkeypatch.setattr(clocks, "time", made)
    return made


def slow_batches(time: Time, seconds: float) -> Iterator[Batch]:
    while True:
        time.now += seconds
        yield None  # type: ignore[misc]


def test_a_lap_separates_training_waiting_and_pauses(time: Time) -> None:
    clock = StepTimer(40)
    batches = slow_batches(time, 0.25)
    for _ in range(4):
        assert len(clock.take(batches, 2)) == 2
        time.now += 1.0
    with clock.paused("val") as validation:
        time.now += 30
    with clock.paused("eval"):
        time.now += 5
    with clock.paused("save") as first:
        time.now += 7
    with clock.paused("save"):
        time.now += 3
    assert (validation.seconds, first.seconds) == (30, 7)
    lap = clock.lap(44)
    assert (lap.steps, lap.seconds, lap.waiting, lap.saves, lap.validations) == (4, 6.0, 2.0, 10, 30)
    assert lap.evaluations == 5
    assert clock.step == 44
    time.now += 2
    lap = clock.lap(45)
    assert (lap.steps, lap.seconds, lap.waiting, lap.saves, lap.validations) == (1, 2.0, 0.0, 0.0, 0.0)


def test_no_time_at_all_divides_nothing_by_zero(time: Time) -> None:
    assert StepTimer(0).lap(1).seconds > 0
