"""Our norm, and where norms are seen, in real engines."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer
from torch import Tensor

from mmae.engine.deepspeed_internals.norm_hooks import leave_out_clipping, replace_norm, report_norm, watch_norm
from mmae.engine.grad_norm import gradients_norm
from mmae.errors import InputError
from tests.support.dots_engine import ON_ENGINES, SHAPES, engine_of, factors, held, take_step

pytestmark = ON_ENGINES


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize(("stage", "precision"), [(1, "bf16"), (2, "bf16"), (1, "fp32"), (2, "fp32")])
def test_a_bad_gradient_changes_nothing_and_counts_as_skipped(stage: int, precision: str, bad: float) -> None:
    engine = engine_of(stage, precision)
    replace_norm(engine, gradients_norm)
    take_step(engine, factors(0))
    before = held(engine)
    assert len(before) > len(SHAPES) + 2
    spoilt = factors(1)
    spoilt[1][1, 1] = bad
    take_step(engine, spoilt)
    assert engine.skipped_steps == 1
    for old, new in zip(before, held(engine), strict=True):
        assert torch.equal(old, new)
    take_step(engine, factors(2))
    assert engine.skipped_steps == 1
    for old, new in zip(before, engine.module.parameters(), strict=False):
        assert not torch.equal(old, new)
    engine.destroy()


@pytest.mark.parametrize("clip", [0.0, 1.0, 1e6])
@pytest.mark.parametrize(("stage", "precision"), [(1, "bf16"), (2, "bf16"), (1, "fp32")])
def test_our_norm_trains_as_deepspeed_s_own(stage: int, precision: str, clip: float) -> None:
    spoilt = factors(3)
    spoilt[2][0] = math.nan
    rounds = [factors(0), factors(1, 100.0), spoilt, factors(2, 1e-3), factors(4)]
    ours, theirs = engine_of(stage, precision, clip), engine_of(stage, precision, clip)
    replace_norm(ours, gradients_norm)
    for numbers in rounds:
        for engine in (ours, theirs):
            take_step(engine, numbers)
        assert float(ours.get_global_grad_norm()) == pytest.approx(float(theirs.get_global_grad_norm()), rel=1e-6)
    assert ours.skipped_steps == theirs.skipped_steps == 1
    for mine, its in zip(held(ours), held(theirs), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-5, atol=1e-7)
    ours.destroy()
    theirs.destroy()


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 1e4, 1e25, math.nan])
def test_our_norm_equals_deepspeed_s_on_the_same_gradients(stage: int, scale: float) -> None:
    # With 1e25 the squares leave float32, in DeepSpeed's sum too.
    engine = engine_of(stage)
    replace_norm(engine, gradients_norm)
    optimizer, norm, pairs = engine.optimizer, engine.optimizer.get_grad_norm_direct, []

    def both(gradients: list[Tensor], params: list[Tensor]) -> Tensor:
        own: Tensor = norm(gradients, params)
        pairs.append((own, DeepSpeedZeroOptimizer.get_grad_norm_direct(optimizer, gradients, params)))
        return own

    optimizer.get_grad_norm_direct = both
    take_step(engine, factors(6, scale))
    assert len(pairs) == 2
    for own, theirs in pairs:
        assert own.dtype == theirs.dtype
        assert own.shape == theirs.shape
        torch.testing.assert_close(own, theirs, rtol=1e-6, atol=0)
    engine.destroy()


def test_a_norm_of_another_order_is_refused() -> None:
    engine = engine_of(1)
    replace_norm(engine, gradients_norm)
    with pytest.raises(ValueError, match="order 1"):
        engine.optimizer.get_grad_norm_direct([torch.ones(2)], [], norm_type=1)
    engine.destroy()


def test_the_norm_of_other_optimizers_is_left_alone() -> None:
    optimizer = SimpleNamespace()
    replace_norm(cast(Any, SimpleNamespace(optimizer=optimizer, bfloat16_enabled=lambda: True)), gradients_norm)
    assert not vars(optimizer)


@pytest.mark.parametrize(
    ("stage", "precision"), [(0, "bf16"), (1, "fp32"), (1, "bf16"), (2, "bf16"), (3, "fp32"), (3, "bf16")]
)
def test_the_norm_is_seen_before_the_update_of_each_step(stage: int, precision: str) -> None:
    engine = engine_of(stage, precision, clip=0.0)
    seen: list[tuple[float, bool]] = []
    first = held(engine)[: len(SHAPES)]

    def see(norm: Any) -> None:
        unchanged = all(torch.equal(old, new) for old, new in zip(first, held(engine), strict=False))
        seen.append((float(norm), unchanged))

    watch_norm(engine, see)
    take_step(engine, factors(0))
    ((norm, unchanged),) = seen
    assert unchanged
    assert norm == pytest.approx(float(engine.get_global_grad_norm()), rel=1e-6)
    assert norm == pytest.approx(float(torch.cat([each.flatten() for each in factors(0)]).norm()), rel=2e-3)
    engine.destroy()


def test_an_optimiser_of_an_unknown_class_is_bad_input() -> None:
    with pytest.raises(InputError, match=r"train\.skip_grad_norm does not work with DeepSpeed's SimpleNamespace"):
        watch_norm(cast(Any, SimpleNamespace(optimizer=SimpleNamespace())), lambda norm: None)


def test_float32_at_stage_0_neither_clips_nor_forgets_the_norm_it_is_told() -> None:
    engine = engine_of(0, "fp32", clip=1e-3)
    leave_out_clipping(engine)
    report_norm(engine, torch.tensor(42.0))
    engine.backward(engine(factors(0, 100.0)))
    seen: list[Tensor] = []
    engine.optimizer.register_step_pre_hook(
        lambda optimizer, *_: seen.extend(p.grad.clone() for part in optimizer.param_groups for p in part["params"])
    )
    engine.step()
    assert all(torch.equal(mine, given) for mine, given in zip(seen, factors(0, 100.0), strict=True))
    assert engine.get_global_grad_norm() == 42.0
    engine.destroy()
