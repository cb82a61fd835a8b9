"""Steps that are left out change nothing but the count, at every ZeRO stage and precision, on every rank."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, cast

import deepspeed
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import nn

from mmae.distributed.process_group import leave
from mmae.engine.deepspeed_internals.norm_hooks import replace_norm
from mmae.engine.grad_norm import gradients_norm
from mmae.engine.skip_update import Skips
from mmae.engine.telemetry.run_log import quiet_libraries
from tests.support.commands import free_port
from tests.support.dots_engine import SHAPES, STAGES, Dots, engine_of, factors, group_of_one, held, join_as, take_step

pytestmark = [pytest.mark.process, pytest.mark.filterwarnings("ignore:`torch.distributed:FutureWarning")]
GRID = tuple(product(STAGES, ("fp32", "bf16")))
CLIP, LIMIT = 1.0, 50.0


def made(stage: int, precision: str, clip: float = CLIP) -> Any:
    """An engine as mmae makes it."""
    engine = engine_of(stage, precision, clip)
    replace_norm(engine, gradients_norm)
    return engine


def step(engine: Any, skips: Skips, seed: int, scale: float = 1.0, bad: float | None = None) -> float:
    given = factors(seed, scale)
    if bad is not None:
        given[1][1, 1] = bad
    take_step(engine, given)
    return float(skips.after_step())


def check(stage: int, precision: str, reason: str, rank: int) -> None:
    """Rank 0's gradients are sound, those of the last rank are not."""
    last = rank == dist.get_world_size() - 1
    engine = made(stage, precision)
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


@pytest.fixture(scope="module", autouse=True)
def group() -> Iterator[None]:
    quiet_libraries()
    with group_of_one():
        yield


@pytest.mark.parametrize("reason", ["nan", "inf", "norm"])
@pytest.mark.parametrize(("stage", "precision"), GRID)
def test_one_rank(stage: int, precision: str, reason: str) -> None:
    check(stage, precision, reason, 0)


def run_on_a_rank(rank: int, port: int, cases: list[tuple[int, str, str]], folder: Path) -> None:
    torch.set_num_threads(1)
    quiet_libraries()
    join_as(rank, 2, port)
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
    engine = made(stage, precision)
    skips = Skips(engine, None)
    assert step(engine, skips, 1, bad=math.nan) == 1
    assert engine.get_lr()[0] == pytest.approx(0.1 / 2)
    with deepspeed.zero.GatheredParameters(list(engine.module.parameters()), enabled=stage == 3):
        assert all(bool((each == 1).all()) for each in engine.module.parameters())
    assert step(engine, skips, 2) == 0
    engine.destroy()


@pytest.mark.parametrize("clip", [0.0, 0.5, 1e6])
def test_float32_at_stage_0_is_clipped_as_torch_clips(clip: float) -> None:
    engine, plain = made(0, "fp32", clip), Dots()
    skips = Skips(engine, None)
    parts: list[dict[str, Any]] = [
        {"params": list(plain.weights[:2]), "weight_decay": 0.1},
        {"params": list(plain.weights[2:])},
    ]
    optimizer = torch.optim.AdamW(parts, lr=0.1)
    for seed in range(4):
        optimizer.param_groups[0]["lr"] = optimizer.param_groups[1]["lr"] = 0.1 / (1 + seed)
        plain(factors(seed)).backward()
        norm = nn.utils.clip_grad_norm_(plain.parameters(), clip or math.inf)
        optimizer.step()
        optimizer.zero_grad()
        assert step(engine, skips, seed) == 0
        torch.testing.assert_close(engine.get_global_grad_norm(), norm)
    for mine, its in zip(engine.module.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-6, atol=1e-7)
    engine.destroy()
