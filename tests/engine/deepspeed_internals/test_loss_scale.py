"""The loss scale of fp16 at every stage, against float32."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from deepspeed.accelerator import get_accelerator

from mmae.engine.deepspeed_internals.loss_scale import grow_scale_after_steps, loss_scale, scale_loss_at_stage_0
from mmae.engine.deepspeed_internals.optimiser_states import undo_first_step
from tests.support.dots_engine import ON_ENGINES, STAGES, engine_of, factors, held, take_step

pytestmark = ON_ENGINES


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_loss_scale_is_found(stage: int) -> None:
    engine = engine_of(stage)
    assert loss_scale(engine) == 1.0
    engine.destroy()


def test_the_loss_scale_of_stage_0_is_found(fp16: None) -> None:
    engine = engine_of(0, "fp16")
    assert loss_scale(engine) == 65_536.0
    engine.destroy()


@pytest.fixture
def fp16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have DeepSpeed accept fp16 on any CPU: torch computes it on all of them."""
    monkeypatch.setattr(type(get_accelerator()), "is_fp16_supported", lambda _self: True)


def scaled_engine(stage: int, clip: float, **options: Any) -> Any:
    """An engine in fp16, as `build_engine` corrects it."""
    engine = engine_of(stage, "fp16", clip, **options)
    if stage == 0:
        undo_first_step(engine)
    grow_scale_after_steps(engine)
    if stage == 0:
        scale_loss_at_stage_0(engine)
    return engine


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_in_fp16_a_step_is_that_of_float32_also_when_the_scale_grows(fp16: None, stage: int, clip: float) -> None:
    scaled = scaled_engine(stage, clip, initial_scale_power=4, loss_scale_window=1)
    exact = engine_of(1, "fp32", clip)
    for seed, scale in enumerate((16.0, 16.0, 32.0, 64.0)):
        assert loss_scale(scaled) == scale
        for engine in (scaled, exact):
            take_step(engine, factors(seed))
        assert float(scaled.get_global_grad_norm()) == pytest.approx(float(exact.get_global_grad_norm()), rel=1e-3)
    first, expected = (
        torch.cat([state["exp_avg"].flatten() for state in engine.basic_optimizer.state.values()]).norm()
        for engine in (scaled, exact)
    )
    torch.testing.assert_close(first, expected, rtol=1e-3, atol=0)
    scaled.destroy()
    exact.destroy()


@pytest.mark.parametrize("stage", STAGES)
def test_in_fp16_an_overflow_halves_the_scale_and_changes_nothing(fp16: None, stage: int) -> None:
    engine = scaled_engine(stage, 1.0, initial_scale_power=4, hysteresis=1)
    take_step(engine, factors(0))
    before = held(engine)
    take_step(engine, factors(1, 3e4))
    assert loss_scale(engine) == 8.0
    assert engine.skipped_steps == 1
    for old, new in zip(before, held(engine), strict=True):
        assert torch.equal(old, new)
    engine.destroy()
