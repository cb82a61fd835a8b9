"""The gradient's norm: that of trusted implementations, and DeepSpeed does with it what it does with its own."""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import deepspeed
import pytest
import torch
from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mmae.distributed.process_group import join, leave
from mmae.engine.grad_norm import gradients_norm, norm_at_once
from tests.support.commands import free_port

pytestmark = pytest.mark.process

SHAPES = ((1,), (7,), (3, 5), (2, 3, 4), (17, 1), (64,))
DTYPES = (torch.bfloat16, torch.float16, torch.float32)


@pytest.mark.process
def test_no_gradient() -> None:
    assert gradients_norm([]).item() == 0
    assert gradients_norm([]).dtype == torch.float64


@pytest.mark.parametrize("gradients", [[torch.zeros(3)], [torch.empty(0)], [torch.empty(0), torch.zeros(2)]])
def test_nothing_in_the_gradients(gradients: list[Tensor]) -> None:
    assert gradients_norm(gradients).item() == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", DTYPES)
def test_one_bad_number_is_enough(bad: float, dtype: torch.dtype) -> None:
    gradients = [torch.ones(shape, dtype=dtype) for shape in SHAPES]
    gradients[3][1, 2, 3] = bad
    assert not gradients_norm(gradients).isfinite()


@settings(max_examples=80, deadline=None)
@given(
    parts=st.lists(st.tuples(st.sampled_from(SHAPES), st.sampled_from(DTYPES)), min_size=1, max_size=9),
    scale=st.sampled_from([1e-4, 1.0, 1e3]),
    seed=st.integers(0, 99),
)
def test_is_torch_s_norm_of_the_same_numbers_in_float64(
    parts: list[tuple[tuple[int, ...], torch.dtype]], scale: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    gradients = [(torch.randn(shape, generator=generator) * scale).to(dtype) for shape, dtype in parts]
    expected = torch.nn.utils.get_total_norm([gradient.double() for gradient in gradients])
    torch.testing.assert_close(gradients_norm(gradients), expected, rtol=1e-6, atol=0)


class Dots(nn.Module):
    """The sum of products with given numbers, which are therefore its gradients."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.weights = nn.ParameterList([nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES])

    def forward(self, factors: list[Tensor]) -> Tensor:
        products = [(w * f.to(w.dtype)).sum() for w, f in zip(self.weights, factors, strict=True)]
        return torch.stack(products).float().sum()


@pytest.fixture(scope="module", autouse=True)
def group() -> Iterator[None]:
    """A DeepSpeed process group of one rank."""
    said = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in said.items():
            patch.setenv(name, str(value))
        join()
        yield
        leave()


def engine_of(stage: int, precision: str = "bf16", clip: float = 1.0) -> Any:
    module = Dots()
    weights = list(module.weights)
    groups: list[dict[str, Any]] = [{"params": weights[:4], "weight_decay": 0.1}, {"params": weights[4:]}]
    optimizer = torch.optim.AdamW(groups, lr=0.1)
    config: dict[str, Any] = {
        "train_batch_size": 1,
        "gradient_clipping": clip,
        "zero_optimization": {"stage": stage, "overlap_comm": False},
        "zero_force_ds_cpu_optimizer": False,
    }
    if precision == "bf16":
        config["bf16"] = {"enabled": True}
    engine, *_ = deepspeed.initialize(model=module, optimizer=optimizer, config=config, dist_init_required=False)
    return engine


def factors(seed: int, scale: float = 1.0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) * scale for shape in SHAPES]


def step(engine: Any, given: list[Tensor]) -> None:
    engine.backward(engine(given))
    engine.step()


def held(engine: Any) -> list[Tensor]:
    """Copies of weights, master weights and moments."""
    optimizer = engine.optimizer
    moments = [value for state in optimizer.optimizer.state.values() for value in state.values()]
    masters = list(optimizer.single_partition_of_fp32_groups)
    return [each.detach().clone() for each in [*engine.module.parameters(), *masters, *moments]]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize(("stage", "precision"), [(1, "bf16"), (2, "bf16"), (1, "fp32"), (2, "fp32")])
def test_a_bad_gradient_changes_nothing_and_counts_as_skipped(stage: int, precision: str, bad: float) -> None:
    engine = engine_of(stage, precision)
    norm_at_once(engine)
    step(engine, factors(0))
    before = held(engine)
    assert len(before) > len(SHAPES) + 2
    spoilt = factors(1)
    spoilt[2][1, 1] = bad
    step(engine, spoilt)
    assert engine.skipped_steps == 1
    for old, new in zip(before, held(engine), strict=True):
        assert torch.equal(old, new)
    step(engine, factors(2))
    assert engine.skipped_steps == 1
    for old, new in zip(before, engine.module.parameters(), strict=False):
        assert not torch.equal(old, new)
    engine.destroy()


@pytest.mark.parametrize("clip", [0.0, 1.0, 1e6])
@pytest.mark.parametrize(("stage", "precision"), [(1, "bf16"), (2, "bf16"), (1, "fp32")])
def test_trains_as_with_deepspeed_s_own(stage: int, precision: str, clip: float) -> None:
    spoilt = factors(3)
    spoilt[5][0] = math.nan
    rounds = [factors(0), factors(1, 100.0), spoilt, factors(2, 1e-3), factors(4)]
    ours, theirs = engine_of(stage, precision, clip), engine_of(stage, precision, clip)
    norm_at_once(ours)
    for numbers in rounds:
        for engine in (ours, theirs):
            step(engine, numbers)
        assert float(ours.get_global_grad_norm()) == pytest.approx(float(theirs.get_global_grad_norm()), rel=1e-6)
    assert ours.skipped_steps == theirs.skipped_steps == 1
    for mine, its in zip(held(ours), held(theirs), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-5, atol=1e-7)
    ours.destroy()
    theirs.destroy()


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 1e4, 1e25, math.nan])
def test_equals_deepspeed_s_method_on_the_same_gradients(stage: int, scale: float) -> None:
    # With 1e25 the squares leave float32, in DeepSpeed's sum too.
    engine = engine_of(stage)
    norm_at_once(engine)
    optimizer, norm, pairs = engine.optimizer, engine.optimizer.get_grad_norm_direct, []

    def both(gradients: list[Tensor], params: list[Tensor]) -> Tensor:
        own: Tensor = norm(gradients, params)
        pairs.append((own, DeepSpeedZeroOptimizer.get_grad_norm_direct(optimizer, gradients, params)))
        return own

    optimizer.get_grad_norm_direct = both
    step(engine, factors(6, scale))
    assert len(pairs) == 2
    for own, theirs in pairs:
        assert own.dtype == theirs.dtype
        assert own.shape == theirs.shape
        torch.testing.assert_close(own, theirs, rtol=1e-6, atol=0)
    engine.destroy()


def test_another_order_is_refused() -> None:
    engine = engine_of(1)
    norm_at_once(engine)
    with pytest.raises(ValueError, match="order 1"):
        engine.optimizer.get_grad_norm_direct([torch.ones(2)], [], norm_type=1)
    engine.destroy()


def test_other_optimizers_are_left_alone() -> None:
    optimizer = SimpleNamespace()
    norm_at_once(SimpleNamespace(optimizer=optimizer, bfloat16_enabled=lambda: True))
    assert not vars(optimizer)
