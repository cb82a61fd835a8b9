"""What is counted as a rank's own work."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmae.engine.own_time import ForwardTimer


class Engine(nn.Module):
    """Takes its time."""

    def __init__(self, seconds: float, device: str = "cpu") -> None:
        super().__init__()
        self.device = torch.device(device)
        self.seconds = seconds

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(self.seconds)
        return x * 2


def test_forward_passes_of_training_are_added_up() -> None:
    engine = Engine(0.02)
    timer = ForwardTimer(engine)
    for _ in range(3):
        engine(torch.ones(1))
        time.sleep(0.02)
    # Of 120 ms the half.
    assert 0.06 <= timer.lap() < 0.11
    assert timer.lap() == 0


def test_validation_is_not_counted() -> None:
    engine = Engine(0.001)
    timer = ForwardTimer(engine)
    engine.eval()
    engine(torch.ones(1))
    assert timer.lap() == 0


def test_a_pass_that_fails_is_not_counted() -> None:
    engine = Engine(0)
    timer = ForwardTimer(engine)
    bad: Any = None
    with pytest.raises(TypeError):
        engine(bad)
    assert timer.lap() == 0
    timer.close()
    engine(torch.ones(1))
    assert timer.lap() == 0


@pytest.mark.gpu
def test_events_are_read_without_waiting() -> None:
    engine = Engine(0.01, "cuda")
    timer = ForwardTimer(engine)
    torch.cuda.set_sync_debug_mode("error")
    try:
        engine(torch.ones(1, device="cuda"))
        timer.lap()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    engine(torch.ones(1, device="cuda"))
    torch.cuda.synchronize()
    assert timer.lap() > 0.005
