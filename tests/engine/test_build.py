"""Building the engine: the seed of what torch's generator still draws, and what a start says."""

from __future__ import annotations

import deepspeed
import pytest
import torch
import torch.distributed as dist

from mmae.config.schema import ModelConfig
from mmae.engine import build
from mmae.engine.build import _seed_of_rank


@pytest.mark.parametrize("seed", [-(2**63), -1, 0, 7, 2**47, 2**63 - 1])
def test_torch_takes_every_seed_of_64_bits(seed: int) -> None:
    seeds = [_seed_of_rank(seed, rank) for rank in range(4)]
    assert len(set(seeds)) == 4
    for each in seeds:
        torch.Generator().manual_seed(each)


def test_small_seeds_are_as_they_were() -> None:
    assert _seed_of_rank(3, 2) == 3 * 65_537 + 2


@pytest.mark.parametrize(("rank", "version", "lines"), [(0, "0.20.1", 1), (1, "0.20.1", 0), (0, "0.19.8", 0)])
def test_rank_0_prints_one_line_about_an_untested_deepspeed(
    rank: int, version: str, lines: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dist, "get_rank", lambda: rank)
    monkeypatch.setattr(deepspeed, "__version__", version)
    build._say_at_the_start(ModelConfig(), torch.device("cpu"))
    said = capsys.readouterr().err.splitlines()
    assert [version in line for line in said] == [True] * lines


@pytest.mark.parametrize(("rank", "lines"), [(0, 1), (1, 0)])
def test_rank_0_prints_one_line_about_a_kernel_that_cannot_run(
    rank: int, lines: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dist, "get_rank", lambda: rank)
    build._say_at_the_start(ModelConfig(attention="short"), torch.device("cpu"))
    said = capsys.readouterr().err.splitlines()
    assert ["model.attention=short" in line for line in said] == [True] * lines
