"""Random generators go on where they stood."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from mmae.engine.checkpoint.contents.rng_state import generator_state, restore_generators


def draws() -> list[float]:
    legacy = np.random
    return [
        torch.rand(()).item(), torch.randn(()).item(), random.random(), random.gauss(0, 1),
        legacy.random(), legacy.standard_normal(),
    ]  # fmt: skip


@pytest.mark.parametrize("drawn_before", [0, 1, 2])
def test_the_same_draws_follow(drawn_before: int) -> None:
    for _ in range(drawn_before):
        draws()
    stored = save(generator_state())
    expected = draws() + draws()
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    assert draws() != expected[:6]
    restore_generators(load(stored))
    assert draws() + draws() == expected


def test_a_state_from_before_holds_torchs_only() -> None:
    state = generator_state()
    expected = torch.rand(())
    restore_generators({"cpu": state["cpu"]})
    assert torch.equal(torch.rand(()), expected)
