"""One optimiser step: the global batch decides, not how it is cut."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from mmae.config.schema import Config
from mmae.data.transforms.preprocess import Preprocess
from mmae.engine.module import PretrainModule
from mmae.engine.step import StepStats, optimiser_step, prepare_step
from mmae.types import Batch
from tests.support.step_case import STATS, VARIANT, config, cut, tiles


@pytest.fixture(autouse=True)
def group(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


class PlainEngine:
    """What the step asks of DeepSpeed's engine, in plain torch: accumulate, and step at the boundary."""

    def __init__(self, module: PretrainModule) -> None:
        self.module = module

    def __call__(self, *args: object) -> tuple[Tensor, ...]:
        result: tuple[Tensor, ...] = self.module(*args)
        return result

    def backward(self, loss: Tensor, scale_wrt_gas: bool) -> None:
        assert not scale_wrt_gas
        torch.autograd.backward(loss)

    def step(self) -> None: ...


def run_step(module: PretrainModule, batches: list[Batch], cfg: Config) -> StepStats:
    preprocess = Preprocess(cfg.data, cfg.model, STATS, torch.device("cpu"))
    engine: Any = PlainEngine(module)
    return optimiser_step(engine, prepare_step(batches, preprocess, cfg), cfg)


@pytest.mark.parametrize("balancer", ["none", "uncertainty"])
@pytest.mark.parametrize("parts", [2, 4, 8])
def test_accumulation_changes_neither_loss_nor_gradient(parts: int, balancer: str) -> None:
    cfg = config(model__task_balancer=balancer)
    whole, spread = (PretrainModule(cfg.model, VARIANT, seed=1) for _ in range(2))
    batch = tiles(8)
    expected = run_step(whole, [batch], cfg)
    seen = run_step(spread, cut(batch, parts), cfg)
    torch.testing.assert_close(seen.loss, expected.loss)
    torch.testing.assert_close(seen.loss_O, expected.loss_O)
    assert seen.count_O.tolist() == expected.count_O.tolist()
    assert seen.hidden_M.tolist() == expected.hidden_M.tolist()
    for (name, a), b in zip(spread.named_parameters(), whole.parameters(), strict=True):
        assert a.grad is not None, name
        assert b.grad is not None, name
        scale = b.grad.abs().max().clamp(min=1e-6)
        assert (a.grad - b.grad).abs().max() <= 1e-4 * scale, name


def without(batch: Batch, damaged: list[int]) -> Batch:
    """The batch as the loader hands it over where some tiles are damaged: zeros that are not real."""
    real_B = torch.ones(len(batch.row_B), dtype=torch.bool)
    real_B[damaged] = False
    pixels = {name: array * real_B[:, None, None, None].to(array.dtype) for name, array in batch.pixels.items()}
    return replace(batch, pixels=pixels, real_B=real_B)


def only(batch: Batch, some: list[int]) -> Batch:
    return Batch(
        {name: pixels[some] for name, pixels in batch.pixels.items()},
        batch.level_B[some], batch.row_B[some], batch.key_B[some], batch.real_B[some],
    )  # fmt: skip


@pytest.mark.parametrize("balancer", ["none", "uncertainty"])
@pytest.mark.parametrize("damaged", [[3], [0, 5, 6, 7], [4, 5, 6, 7]])
def test_a_step_with_damaged_tiles_is_the_step_without_them(damaged: list[int], balancer: str) -> None:
    cfg = config(model__task_balancer=balancer)
    with_them, without_them = (PretrainModule(cfg.model, VARIANT, seed=1) for _ in range(2))
    seen = run_step(with_them, cut(without(tiles(8), damaged), 2), cfg)
    expected = run_step(without_them, [only(tiles(8), [tile for tile in range(8) if tile not in damaged])], cfg)
    assert float(seen.left_out) == len(damaged)
    assert float(expected.left_out) == 0
    for name in ("loss", "loss_O", "count_O", "hidden_M", "valid_M", "filled"):
        torch.testing.assert_close(getattr(seen, name), getattr(expected, name))
    for (name, a), b in zip(with_them.named_parameters(), without_them.parameters(), strict=True):
        assert a.grad is not None, name
        assert b.grad is not None, name
        assert (a.grad - b.grad).abs().max() <= 1e-4 * b.grad.abs().max().clamp(min=1e-6), name


@pytest.mark.parametrize("exact", [True, False])
def test_a_step_of_damaged_tiles_learns_nothing(exact: bool) -> None:
    cfg = config(model__paper_exact=exact, model__task_balancer="uncertainty")
    module = PretrainModule(cfg.model, VARIANT, seed=1)
    stats = run_step(module, cut(without(tiles(8), list(range(8))), 2), cfg)
    assert float(stats.left_out) == 8
    for name in ("loss", "loss_O", "count_O", "hidden_M", "valid_M", "filled"):
        assert not getattr(stats, name).any(), name
    for name, parameter in module.named_parameters():
        assert parameter.grad is None or not parameter.grad.any(), name


def test_the_statistics_of_a_step_are_counted_from_its_tiles() -> None:
    cfg = config()
    stats = run_step(PretrainModule(cfg.model, VARIANT), [tiles(8)], cfg)
    valid = dict(zip(cfg.model.in_domains, stats.valid_M.tolist(), strict=True))
    assert valid == pytest.approx(
        {"rgb": 7 / 8, "depth": 1, "semseg": 1 / 2, "ired": 7 / 8, "sired": 7 / 8, "ebands": 7 / 8}
    )
    count = dict(zip(cfg.model.outputs, stats.count_O.tolist(), strict=True))
    assert count["semseg"] <= 4
    assert count["rgb"] == count["norm_rgb"] <= 7
    assert float(stats.hidden_M.mean()) == pytest.approx(1 - 9 / 54)
    assert float(stats.filled) == 0


def test_the_published_loss_is_the_mean_of_each_micro_batch() -> None:
    cfg = config(model__paper_exact=True)
    module = PretrainModule(cfg.model, VARIANT)
    batch = tiles(8)
    halves = [run_step(module, [half], cfg).loss for half in cut(batch, 2)]
    both = run_step(module, cut(batch, 2), cfg).loss
    torch.testing.assert_close(both, torch.stack(halves).mean())
