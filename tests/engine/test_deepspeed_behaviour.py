"""What each function that reaches into DeepSpeed does to a real engine, at every stage."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
import torch.distributed as dist
from deepspeed.accelerator import get_accelerator
from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer
from deepspeed.utils import safe_set_full_optimizer_state
from torch import Tensor

from mmae.engine import deepspeed_internals as internals
from mmae.engine.deepspeed_internals import (
    WriterInterface,
    gathered,
    grow_scale_after_steps,
    hand_over_gradients,
    has_master_part,
    is_sharded,
    leave_out_clipping,
    link_moments,
    loss_scale,
    replace_norm,
    replace_writer,
    report_norm,
    scale_loss_at_stage_0,
    set_counts,
    stage_0_master,
    undo_first_step,
    watch_norm,
    whole_shape,
)
from mmae.engine.grad_norm import gradients_norm
from mmae.errors import InputError
from tests.support.dots_engine import SHAPES, STAGES, engine_of, factors, group_of_one, held, take_step
from tests.support.watching import watching

pytestmark = [pytest.mark.process, pytest.mark.filterwarnings("ignore:`torch.distributed:FutureWarning")]


@pytest.fixture(scope="module", autouse=True)
def group() -> Iterator[None]:
    with group_of_one():
        yield


@pytest.mark.parametrize("stage", STAGES)
def test_a_parameter_is_whole_while_it_is_gathered(stage: int) -> None:
    engine = engine_of(stage, "fp32")
    for parameter, shape in zip(engine.module.parameters(), SHAPES, strict=True):
        assert is_sharded(parameter) is (stage == 3)
        assert whole_shape(parameter) == shape
        with gathered(parameter, modifier_rank=0), torch.no_grad():
            assert parameter.shape == shape
            parameter.fill_(3)
        with gathered(parameter):
            assert bool((parameter == 3).all())
        assert (parameter.numel() == 0) is (stage == 3)
    with gathered(torch.ones(2)):
        pass
    engine.destroy()


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


class Recorder(WriterInterface):
    """Writes plainly, and notes the names."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def save(self, state_dict: Any, path: str | Path) -> None:
        self.names.append(Path(path).name)
        torch.save(state_dict, path)


@pytest.mark.parametrize("stage", STAGES)
def test_saves_and_loads_go_through_our_writer_and_nothing_else_is_written(stage: int, tmp_path: Path) -> None:
    engine, writer = engine_of(stage), Recorder()
    replace_writer(engine, writer)
    take_step(engine, factors(0))
    before = held(engine)
    engine.save_checkpoint(str(tmp_path), tag="a", client_state={}, save_latest=False)
    assert sorted(writer.names) == sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert writer.names
    take_step(engine, factors(1))
    engine.load_checkpoint(str(tmp_path), tag="a")
    for old, new in zip(before, held(engine), strict=True):
        assert torch.equal(old, new)
    engine.destroy()


@pytest.mark.parametrize("stage", STAGES)
def test_a_failed_save_ends_as_a_good_one_does(stage: int, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, calls = engine_of(stage), []
    monkeypatch.setattr(dist, "barrier", lambda: calls.append("barrier"))
    if stage == 3:
        monkeypatch.setattr(engine.optimizer, "checkpoint_event_epilogue", lambda: calls.append("epilogue"))
    internals.end_failed_save(engine)
    assert calls == (["epilogue", "barrier"] if stage == 3 else ["barrier"])
    engine.destroy()
