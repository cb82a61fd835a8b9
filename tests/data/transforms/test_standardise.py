"""Percentile standardisation against plain numpy, tile by tile."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmae.data.transforms.standardise import _inner, standardise, tile_deviations


def standardised(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    known = np.sort(values[valid].astype(np.float64))
    inner = known[int(0.1 * len(known)) : int(0.9 * len(known))]
    if len(inner) < 2:
        return np.zeros_like(values, dtype=np.float64)
    return np.where(valid, (values - inner.mean()) / np.sqrt(inner.var(ddof=1) + 1e-6), 0)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 5), st.integers(1, 9), st.floats(0, 1), st.integers(0, 2**31))
def test_it_equals_numpy_where_every_tile_has_other_gaps(tiles: int, side: int, share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(tiles, 1, side, side)).astype(np.float32)
    valid = rng.random(values.shape) < share
    ours = standardise(torch.from_numpy(values), torch.from_numpy(valid))
    assert ours.dtype == torch.float32
    expected = np.stack([standardised(v, ok) for v, ok in zip(values, valid, strict=True)])
    np.testing.assert_allclose(ours.numpy(), expected, rtol=2e-6, atol=2e-6)


def test_cuts_are_those_of_floating_point_percentiles() -> None:
    number = torch.arange(0, 20_000)
    low, high = number // 10, number * 9 // 10
    assert low.tolist() == [int(0.1 * n) for n in number.tolist()]
    assert high.tolist() == [int(0.9 * n) for n in number.tolist()]
    inner_Bn, count_B1 = _inner(torch.ones(1, 30, dtype=torch.bool))
    assert inner_Bn[0].nonzero().flatten().tolist() == list(range(3, 27))
    assert count_B1.item() == 24


@pytest.mark.parametrize("height", [0.0, 3.7, -1.2e4])
def test_a_flat_tile_becomes_zero(height: float) -> None:
    values = torch.full((2, 1, 7, 7), height)
    torch.testing.assert_close(standardise(values, torch.ones_like(values, dtype=torch.bool)), torch.zeros(2, 1, 7, 7))


@pytest.mark.parametrize("number", [0, 1, 2])
def test_fewer_than_two_inner_values_give_zero(number: int) -> None:
    values = torch.arange(9.0).view(1, 1, 3, 3)
    assert (standardise(values, values < number) == 0).all()
    assert (standardise(values, values < 3) != 0).any()


@pytest.mark.parametrize("hole", [torch.nan, torch.inf, -torch.inf, 1e30])
def test_missing_pixels_are_ignored(hole: float) -> None:
    values = torch.randn(1, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    valid = torch.ones_like(values, dtype=torch.bool)
    valid[..., :2] = False
    spoiled = torch.where(valid, values, hole)
    torch.testing.assert_close(standardise(spoiled, valid), standardise(values, valid), rtol=0, atol=0)


@pytest.mark.parametrize("number", [0, 2, 3, 40])
def test_a_tile_s_deviation_brings_its_values_back(number: int) -> None:
    values = torch.randn(2, 1, 7, 7, generator=torch.Generator().manual_seed(1)) * 30
    valid = (torch.arange(49) < number).view(7, 7).expand_as(values)
    deviation_B1 = tile_deviations(values, valid)
    assert ((deviation_B1 == 0) == (number < 3)).all()
    back = standardise(values, valid) * deviation_B1[:, :, None, None]
    shift = torch.where(valid, values - back, 0)
    # Every value of a tile is shifted by the tile's mean.
    assert torch.allclose(shift[valid], shift[:, :, :1, :1].expand_as(shift)[valid], atol=1e-4) or number < 3
