"""Gradients that are handed over make the same step."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from mmae.engine.deepspeed_internals.handed_gradients import hand_over_gradients
from mmae.engine.deepspeed_internals.norm_hooks import replace_norm
from mmae.engine.grad_norm import gradients_norm
from tests.support.dots_engine import ON_ENGINES, engine_of, factors, held, take_step
from tests.support.watching import watching

pytestmark = ON_ENGINES


def two_engines(stage: int, precision: str, clip: float) -> tuple[Any, Any]:
    """DeepSpeed's own, and one whose gradients are handed over."""
    own, ours = engine_of(stage, precision, clip), engine_of(stage, precision, clip)
    hand_over_gradients(ours)
    return own, ours


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_gradients_that_are_handed_over_make_the_same_step(stage: int, precision: str) -> None:
    for clip, exact in ((1e6, True), (0.0, True), (0.5, False)):
        own, ours = two_engines(stage, precision, clip)
        for seed in range(3):
            for engine in (own, ours):
                take_step(engine, factors(seed))
            assert float(own.get_global_grad_norm()) == float(ours.get_global_grad_norm())
        for expected, found in zip(held(own), held(ours), strict=True):
            # AdamW divides by what DeepSpeed multiplies with the reciprocal of.
            torch.testing.assert_close(found, expected, rtol=0 if exact else 1e-5, atol=0 if exact else 1e-6)
        for engine in (own, ours):
            engine.destroy()


@pytest.mark.parametrize("stage", [1, 2])
def test_handed_over_gradients_that_are_not_finite_change_nothing(stage: int) -> None:
    own, ours = two_engines(stage, "bf16", 1e6)
    for given in (factors(0), factors(1, math.inf), factors(2)):
        for engine in (own, ours):
            take_step(engine, given)
    assert own.skipped_steps == ours.skipped_steps == 1
    assert all(bool(left.equal(right)) for left, right in zip(held(own), held(ours), strict=True))
    for engine in (own, ours):
        engine.destroy()


def test_a_step_with_handed_over_gradients_waits_once() -> None:
    found = []
    for engine in two_engines(1, "bf16", 1.0):
        replace_norm(engine, gradients_norm)
        engine.backward(engine(factors(0)))
        with watching() as seen:
            engine.step()
        found.append(len(seen.waits))
        engine.destroy()
    assert found == [3, 1]


@pytest.mark.parametrize(("stage", "precision"), [(0, "bf16"), (0, "fp32"), (3, "bf16")])
def test_other_stages_keep_their_gradients(stage: int, precision: str) -> None:
    engine = engine_of(stage, precision)
    before = set(vars(engine.optimizer))
    hand_over_gradients(engine)
    assert set(vars(engine.optimizer)) == before
    engine.destroy()
