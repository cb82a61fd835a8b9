"""What is read and set in the states of real engines, at every stage."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from deepspeed.utils import safe_set_full_optimizer_state

from mmae.engine.deepspeed_internals.optimiser_states import (
    has_master_part,
    link_moments,
    set_counts,
    stage_0_master,
    undo_first_step,
)
from tests.support.dots_engine import ON_ENGINES, SHAPES, engine_of, factors, take_step

pytestmark = ON_ENGINES


@pytest.mark.parametrize("stage", [0, 1, 2])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_only_stages_1_and_2_have_parts_of_masters(stage: int, precision: str) -> None:
    engine = engine_of(stage, precision)
    assert {has_master_part(parameter) for parameter in engine.module.parameters()} == {stage > 0}
    engine.destroy()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_master_of_stage_0_is_what_the_optimiser_updates(precision: str) -> None:
    engine = engine_of(0, precision)
    masters = [stage_0_master(engine, parameter) for parameter in engine.module.parameters()]
    updated = [parameter for part in engine.basic_optimizer.param_groups for parameter in part["params"]]
    assert all(any(master is each for each in updated) for master in masters)
    assert [(tuple(master.shape), master.dtype) for master in masters] == [(shape, torch.float32) for shape in SHAPES]
    engine.destroy()


def set_all_moments(engine: Any) -> None:
    for parameter in engine.module.parameters():
        safe_set_full_optimizer_state(parameter, torch.full(parameter.shape, 2.5), "exp_avg")


@pytest.mark.parametrize("stage", [1, 2])
def test_moments_of_every_group_can_be_set_once_they_are_linked(stage: int) -> None:
    engine = engine_of(stage)
    take_step(engine, factors(0))
    link_moments(engine)
    set_all_moments(engine)
    numbers = sum(math.prod(shape) for shape in SHAPES)
    set_now = sum(int((state["exp_avg"] == 2.5).sum()) for state in engine.basic_optimizer.state.values())
    assert set_now == numbers
    engine.destroy()


@pytest.mark.parametrize("stage", [0, 3])
def test_where_there_is_nothing_to_link_nothing_is_done(stage: int) -> None:
    engine = engine_of(stage)
    before = set(vars(engine.optimizer))
    link_moments(engine)
    assert set(vars(engine.optimizer)) == before
    engine.destroy()


def test_the_counts_go_on_from_a_step() -> None:
    engine = engine_of(1)
    engine.skipped_steps = 4
    set_counts(engine, 7)
    take_step(engine, factors(0))
    assert (engine.global_steps, engine.micro_steps, engine.global_samples, engine.skipped_steps) == (8, 8, 8, 0)
    engine.destroy()


def test_the_first_step_of_stage_0_in_bf16_is_undone() -> None:
    engine = engine_of(0)
    # Where DeepSpeed has stopped doing it, the function has nothing left to do.
    assert engine.basic_optimizer.state
    undo_first_step(engine)
    assert not engine.basic_optimizer.state
    masters = [stage_0_master(engine, parameter) for parameter in engine.module.parameters()]
    assert all(bool((master == 1).all()) for master in masters)
    take_step(engine, factors(0))
    assert {int(state["step"]) for state in engine.basic_optimizer.state.values()} == {1}
    engine.destroy()
