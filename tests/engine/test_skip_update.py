"""Steps that are left out change nothing but the count, at every ZeRO stage and precision, on every rank."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, cast

import deepspeed
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from deepspeed.utils import groups
from torch import Tensor, nn

from mmae.distributed.process_group import join, leave
from mmae.engine.grad_norm import norm_at_once
from mmae.engine.skip_update import Skips
from mmae.engine.telemetry.run_log import quiet_libraries
from tests.support.commands import free_port

pytestmark = [pytest.mark.process, pytest.mark.filterwarnings("ignore:`torch.distributed:FutureWarning")]
SHAPES = ((7,), (3, 5), (64,))
GRID = tuple(product((0, 1, 2, 3), ("fp32", "bf16")))
CLIP, LIMIT = 1.0, 50.0


class Dots(nn.Module):
    """The sum of products with given numbers, which are therefore its gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(torch.ones(shape)) for shape in SHAPES])

    def forward(self, factors: list[Tensor]) -> Tensor:
        products = [(w * f.to(w.dtype)).sum() for w, f in zip(self.weights, factors, strict=True)]
        return torch.stack(products).float().sum()


def engine_of(stage: int, precision: str, clip: float = CLIP) -> Any:
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_clipping": clip,
        "zero_optimization": {"stage": stage, "memory_efficient_linear": False},
    }
    if precision == "bf16":
        config["bf16"] = {"enabled": True}
    with deepspeed.zero.Init(config_dict_or_path=config, enabled=stage == 3):
        module = Dots()
    weights = list(module.weights)
    parts: list[dict[str, Any]] = [{"params": weights[:2], "weight_decay": 0.1}, {"params": weights[2:]}]
    optimizer = torch.optim.AdamW(parts, lr=0.1, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    engine, *_ = deepspeed.initialize(
        model=module, optimizer=optimizer, lr_scheduler=schedule, config=config, dist_init_required=False
    )
    norm_at_once(engine)
    return engine


def step(engine: Any, skips: Skips, seed: int, scale: float = 1.0, bad: float | None = None) -> float:
    generator = torch.Generator().manual_seed(seed)
    factors = [torch.randn(shape, generator=generator) * scale for shape in SHAPES]
    if bad is not None:
        factors[1][1, 1] = bad
    engine.backward(engine(factors))
    engine.step()
    return float(skips.after_step())


def held(engine: Any) -> list[Tensor]:
    """Copies of weights, master weights, moments and counts."""
    parameters = list(engine.module.parameters())
    with deepspeed.zero.GatheredParameters(parameters, enabled=engine.zero_optimization_stage() == 3):
        weights = [each.detach().clone() for each in parameters]
    state = [(master, *values.values()) for master, values in engine.basic_optimizer.state.items()]
    return [*weights, *(each.detach().clone() for tensors in state for each in tensors)]


def check(stage: int, precision: str, reason: str, rank: int) -> None:
    """Rank 0's gradients are sound, those of the last rank are not."""
    last = rank == dist.get_world_size() - 1
    engine = engine_of(stage, precision)
    skips = Skips(engine, LIMIT)
    spoilt = {"nan": {"bad": math.nan}, "inf": {"bad": math.inf}, "norm": {"scale": 1e3}}[reason] if last else {}
    assert step(engine, skips, 0) == 0
    before = held(engine)
    assert len(before) > 2 * len(SHAPES)
    rate = engine.get_lr()[0]
    assert step(engine, skips, 1, **spoilt) == 1
    assert engine.get_lr()[0] == pytest.approx(rate * 2 / 3)
    after = held(engine)
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))
    assert step(engine, skips, 2) == 0
    assert not any(torch.equal(old, new) for old, new in zip(before, held(engine), strict=True))
    assert engine.get_lr()[0] == pytest.approx(rate * 2 / 4)
    engine.destroy()


def group_of(rank: int, world: int, port: int) -> None:
    said = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in said.items()})
    quiet_libraries()
    join()


@pytest.fixture(scope="module", autouse=True)
def group() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
            patch.setenv(name, "")
        # DeepSpeed keeps the group of an earlier test's engines.
        patch.setattr(groups, "_WORLD_GROUP", None)
        group_of(0, 1, free_port())
        yield
        leave()


@pytest.mark.parametrize("reason", ["nan", "inf", "norm"])
@pytest.mark.parametrize(("stage", "precision"), GRID)
def test_one_rank(stage: int, precision: str, reason: str) -> None:
    check(stage, precision, reason, 0)


def run_on_a_rank(rank: int, port: int, cases: list[tuple[int, str, str]], folder: Path) -> None:
    torch.set_num_threads(1)
    group_of(rank, 2, port)
    for case in cases:
        check(*case, rank)
        (folder / f"{case} {rank}").touch()
    leave()


@pytest.mark.parametrize(
    "cases",
    [
        [(0, "fp32", "nan"), (1, "bf16", "norm"), (2, "fp32", "inf"), (3, "bf16", "nan"), (3, "fp32", "norm")],
        pytest.param([(*pair, reason) for pair in GRID for reason in ("nan", "inf", "norm")], marks=pytest.mark.slow),
    ],
    ids=["some", "all"],
)
def test_two_ranks_of_which_one_has_bad_numbers(cases: list[tuple[int, str, str]], tmp_path: Path) -> None:
    cast(Any, torch.multiprocessing).spawn(run_on_a_rank, (free_port(), cases, tmp_path), nprocs=2)
    assert len(list(tmp_path.iterdir())) == 2 * len(cases)


@pytest.mark.parametrize(("stage", "precision"), GRID)
def test_a_first_step_may_be_left_out(stage: int, precision: str) -> None:
    engine = engine_of(stage, precision)
    skips = Skips(engine, None)
    assert step(engine, skips, 1, bad=math.nan) == 1
    assert engine.get_lr()[0] == pytest.approx(0.1 / 2)
    with deepspeed.zero.GatheredParameters(list(engine.module.parameters()), enabled=stage == 3):
        assert all(bool((each == 1).all()) for each in engine.module.parameters())
    assert step(engine, skips, 2) == 0
    engine.destroy()


@pytest.mark.parametrize("clip", [0.0, 0.5, 1e6])
def test_float32_at_stage_0_is_clipped_as_torch_clips(clip: float) -> None:
    engine, plain = engine_of(0, "fp32", clip), Dots()
    skips = Skips(engine, None)
    parts: list[dict[str, Any]] = [
        {"params": list(plain.weights[:2]), "weight_decay": 0.1},
        {"params": list(plain.weights[2:])},
    ]
    optimizer = torch.optim.AdamW(parts, lr=0.1)
    for seed in range(4):
        optimizer.param_groups[0]["lr"] = optimizer.param_groups[1]["lr"] = 0.1 / (1 + seed)
        generator = torch.Generator().manual_seed(seed)
        plain([torch.randn(shape, generator=generator) for shape in SHAPES]).backward()
        norm = nn.utils.clip_grad_norm_(plain.parameters(), clip or math.inf)
        optimizer.step()
        optimizer.zero_grad()
        assert step(engine, skips, seed) == 0
        torch.testing.assert_close(engine.get_global_grad_norm(), norm)
    for mine, its in zip(engine.module.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-6, atol=1e-7)
    engine.destroy()
