"""What is counted as a rank's own work."""

from __future__ import annotations

import time as real
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from mmae.engine.telemetry import straggler_timer
from mmae.engine.telemetry.straggler_timer import ForwardTimer


class Time:
    """A clock that only the test moves."""

    now = 100.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time()
    monkeypatch.setattr(straggler_timer, "time", made)
    return made


class Engine(nn.Module):
    """An engine whose passes take time."""

    def __init__(self, sleep: Callable[[float], None], seconds: float, device: str = "cpu") -> None:
        super().__init__()
        self.device = torch.device(device)
        self.sleep, self.seconds = sleep, seconds

    def forward(self, x: Tensor) -> Tensor:
        self.sleep(self.seconds)
        return x * 2


def test_forward_passes_of_training_are_added_up(time: Time) -> None:
    engine = Engine(time.sleep, 2.0)
    timer = ForwardTimer(cast(Any, engine))
    for _ in range(3):
        engine(torch.ones(1))
        time.sleep(5.0)
    assert timer.lap() == 6.0
    assert timer.lap() == 0


def test_validation_is_not_counted(time: Time) -> None:
    engine = Engine(time.sleep, 1.0)
    timer = ForwardTimer(cast(Any, engine))
    engine.eval()
    engine(torch.ones(1))
    assert timer.lap() == 0


def test_a_pass_that_fails_is_not_counted(time: Time) -> None:
    engine = Engine(time.sleep, 0.0)
    timer = ForwardTimer(cast(Any, engine))
    bad: Any = None
    with pytest.raises(TypeError):
        engine(bad)
    assert timer.lap() == 0
    timer.close()
    engine(torch.ones(1))
    assert timer.lap() == 0


@pytest.mark.gpu
def test_events_are_read_without_waiting() -> None:
    engine = Engine(real.sleep, 0.01, "cuda")
    timer = ForwardTimer(cast(Any, engine))
    torch.cuda.set_sync_debug_mode("error")
    try:
        engine(torch.ones(1, device="cuda"))
        timer.lap()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    engine(torch.ones(1, device="cuda"))
    torch.cuda.synchronize()
    assert timer.lap() > 0.005
