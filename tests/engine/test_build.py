"""Building the engine: the seed of what torch's generator still draws."""

from __future__ import annotations

import pytest
import torch

from mmae.engine.build import _seed_of_rank


@pytest.mark.parametrize("seed", [-(2**63), -1, 0, 7, 2**47, 2**63 - 1])
def test_torch_takes_every_seed_of_64_bits(seed: int) -> None:
    seeds = [_seed_of_rank(seed, rank) for rank in range(4)]
    assert len(set(seeds)) == 4
    for each in seeds:
        torch.Generator().manual_seed(each)


def test_small_seeds_are_as_they_were() -> None:
    assert _seed_of_rank(3, 2) == 3 * 65_537 + 2
