"""The average of the weights is what plain torch makes of them, at every ZeRO stage, on any number of ranks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from deepspeed.utils import safe_get_full_fp32_param
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mmae.distributed.process_group import leave
from mmae.engine.average.weight_average import WeightAverage, rate_of
from mmae.engine.checkpoint.contents.average_state import average_file, open_average
from mmae.engine.deepspeed_internals.norm_hooks import replace_norm
from mmae.engine.deepspeed_internals.optimiser_states import stage_0_master
from mmae.engine.grad_norm import gradients_norm
from mmae.engine.skip_update import Skips
from mmae.engine.telemetry.run_log import quiet_libraries
from tests.support.commands import free_port
from tests.support.dots_engine import SHAPES, STAGES, Dots, engine_of, factors, group_of_one, held, join_as, take_step

pytestmark = [pytest.mark.process, pytest.mark.filterwarnings("ignore:`torch.distributed:FutureWarning")]
GRID = tuple(product(STAGES, ("fp32", "bf16")))
HALF_LIFE, BATCH = 6, 4
BAD = 2
"""The step that is left out."""
Case = tuple[int, str]


def made(stage: int, precision: str) -> Any:
    """An engine as mmae makes it."""
    engine = engine_of(stage, precision)
    replace_norm(engine, gradients_norm)
    return engine


def masters(engine: Any, stage: int) -> list[torch.Tensor]:
    """The whole master weights, asked of DeepSpeed."""
    parameters = list(engine.module.parameters())
    if stage == 0:
        return [stage_0_master(engine, each).detach() for each in parameters]
    return [
        cast(Any, safe_get_full_fp32_param)(each).view(shape) for each, shape in zip(parameters, SHAPES, strict=True)
    ]


def copy_masters(plain: Dots, engine: Any, stage: int) -> None:
    with torch.no_grad():
        for mine, its in zip(plain.parameters(), masters(engine, stage), strict=True):
            mine.copy_(its)


def same(old: list[torch.Tensor], new: list[torch.Tensor]) -> bool:
    """Bit for bit, the sign of zeros included."""
    return all(torch.equal(a, b) and torch.equal(a.signbit(), b.signbit()) for a, b in zip(old, new, strict=True))


def check(stage: int, precision: str, folder: Path) -> None:
    """Six steps, one of them skipped, beside torch's own average in float64; then shown, saved and loaded."""
    engine, plain = made(stage, precision), Dots().double()
    skips, average = Skips(engine, None), WeightAverage(engine, HALF_LIFE, BATCH)
    copy_masters(plain, engine, stage)
    reference = AveragedModel(plain, multi_avg_fn=cast(Any, get_ema_multi_avg_fn)(0.5 ** (BATCH / HALF_LIFE)))
    reference.update_parameters(plain)
    for number in range(6):
        given = factors(number + 10 * dist.get_rank())
        if number == BAD and dist.get_rank() == dist.get_world_size() - 1:
            given[1][1, 1] = math.nan
        take_step(engine, given)
        skipped = skips.after_step()
        assert bool(skipped) is (number == BAD)
        average.update(skipped)
        if number != BAD:
            copy_masters(plain, engine, stage)
            reference.update_parameters(plain)

    before, dtype = held(engine), torch.bfloat16 if precision == "bf16" else torch.float32
    with average.shown():
        shown = held(engine)[: len(SHAPES)]
        loss = engine(factors(9)).item()
    expected = [each.detach().float() for each in reference.module.parameters()]
    for mine, its in zip(shown, expected, strict=True):
        torch.testing.assert_close(mine, its.to(dtype), rtol=1e-6 if precision == "fp32" else 8e-3, atol=1e-6)
    assert not same(before[: len(SHAPES)], shown)
    assert loss == pytest.approx(
        sum((w * f.to(dtype)).sum().item() for w, f in zip(shown, factors(9), strict=True)), abs=0.1
    )
    assert same(before, held(engine))

    folder.mkdir(parents=True, exist_ok=True)
    if (written := average_file(average)) is not None:
        (folder / f"average_rank_{dist.get_rank()}.safetensors").write_bytes(written)
    dist.barrier()
    stored = open_average(folder)
    assert stored is not None
    assert stored.half_life == HALF_LIFE
    for number, its in enumerate(expected):
        whole = stored.read(f"weights.{number}", its.numel(), 0, its.numel())
        torch.testing.assert_close(whole.view(its.shape), its, rtol=1e-6, atol=1e-6)
    # Training goes on from there.
    take_step(engine, factors(20))
    assert not same(before, held(engine))
    engine.destroy()


def check_loading(stage: int, precision: str, folder: Path) -> None:
    """An average goes on bit for bit from what other ranks and another stage wrote."""
    engine, stored = made(stage, precision), open_average(folder)
    assert stored is not None
    average = WeightAverage(engine, HALF_LIFE, BATCH)
    average.load(folder)
    assert not average.restarted
    numbers = {f"weights.{number}": math.prod(shape) for number, shape in enumerate(SHAPES)}
    seen = torch.zeros(len(SHAPES))
    for name, part in average.parts().items():
        whole = stored.read(name, numbers[name], 0, numbers[name])
        assert torch.equal(part.numbers, whole[part.start :][: len(part.numbers)])
        seen[int(name[-1])] += len(part.numbers)
    dist.all_reduce(seen)
    assert seen.tolist() == list(numbers.values())
    engine.destroy()


@pytest.fixture(scope="module", autouse=True)
def group() -> Iterator[None]:
    quiet_libraries()
    with group_of_one():
        yield


def run_on_a_rank(
    rank: int, port: int, cases: tuple[Case, ...], folder: Path, others: list[tuple[int, str, Path]]
) -> None:
    torch.set_num_threads(1)
    quiet_libraries()
    join_as(rank, 2, port)
    for stage, precision in cases:
        check(stage, precision, folder / f"{stage}-{precision}")
    for stage, precision, written in others:
        check_loading(stage, precision, written)
    (folder / f"done-{rank}").touch()
    leave()


@pytest.mark.parametrize(
    "cases",
    [((0, "fp32"), (1, "bf16"), (2, "fp32"), (3, "bf16")), pytest.param(GRID, marks=pytest.mark.slow)],
    ids=["some", "all"],
)
def test_every_stage_averages_as_torch_does(cases: tuple[Case, ...], tmp_path: Path) -> None:
    for stage, precision in cases:
        check(stage, precision, tmp_path / str(stage))
    for stage, precision in cases:
        check_loading(stage, precision, tmp_path / str(3 - stage))


@pytest.mark.slow
def test_so_it_does_on_two_ranks_which_read_what_one_wrote(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    two.mkdir()
    for stage, precision in GRID:
        check(stage, precision, one / f"{stage}-{precision}")
    # Each stage reads on two ranks what another one wrote on one, and the other way round.
    pairs = [(stage, precision, one / f"{other}-{precision}") for stage, precision in GRID for other in STAGES]
    cast(Any, torch.multiprocessing).spawn(run_on_a_rank, (free_port(), GRID, two, pairs), nprocs=2)
    assert len(list(two.glob("done-*"))) == 2
    for stage, precision, written in pairs:
        check_loading(stage, precision, two / written.name)


def test_a_checkpoint_without_an_average_restarts_it_at_the_weights(tmp_path: Path) -> None:
    engine = made(1, "fp32")
    average = WeightAverage(engine, HALF_LIFE, BATCH)
    average.load(tmp_path)
    assert average.restarted
    assert all(bool((part.numbers == 1).all()) for part in average.parts().values())
    engine.destroy()


def test_the_half_life_in_tiles_does_not_depend_on_the_batch() -> None:
    kept = {batch: (1 - rate_of(1024, batch)) ** (1024 // batch) for batch in (1, 8, 256, 1024)}
    assert kept == {batch: pytest.approx(0.5, rel=1e-12) for batch in kept}
