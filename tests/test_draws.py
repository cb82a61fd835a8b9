from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmae.draws import (
    _GOLDEN,
    MAX_REPEATS,
    MAX_SETS,
    VALIDATION_EPOCH,
    Stream,
    below,
    bits,
    draw_rows,
    mix,
    tile_keys,
    uniform,
)

INT64 = st.integers(-(2**63), 2**63 - 1)

# First outputs of SplitMix64 for two seeds, as its reference implementation (Vigna) prints them.
REFERENCE = {
    0: [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F],
    1234567: [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431],
}


def keys(count: int, seed: int = 0, epoch: int = 0) -> torch.Tensor:
    return torch.from_numpy(tile_keys(seed, epoch, np.arange(count)))


@pytest.mark.parametrize("seed", REFERENCE)
def test_mix_is_splitmix64(seed: int) -> None:
    outputs = REFERENCE[seed]
    counter = torch.arange(1, len(outputs) + 1, dtype=torch.int64)
    assert (mix(seed + counter * _GOLDEN).numpy().view(np.uint64) == np.array(outputs, np.uint64)).all()


@given(st.lists(INT64, min_size=1, max_size=20))
def test_numpy_and_torch_give_the_same_bits(words: list[int]) -> None:
    array = np.array(words, np.int64)
    assert (mix(array) == mix(torch.from_numpy(array)).numpy()).all()


def test_mix_is_a_bijection_on_a_sample() -> None:
    assert len(np.unique(mix(torch.arange(100_000)).numpy())) == 100_000


def test_keys_differ_by_seed_epoch_and_row() -> None:
    every = [tile_keys(seed, epoch, np.arange(50)) for seed in (-1, 0, 1) for epoch in (VALIDATION_EPOCH, 0, 1)]
    assert len(np.unique(np.concatenate(every))) == 9 * 50


def test_a_tile_has_the_same_draws_in_any_batch() -> None:
    whole = bits(keys(20), Stream.MASK_UNION, 7)
    assert torch.equal(bits(keys(20)[5:9], Stream.MASK_UNION, 7), whole[5:9])
    assert torch.equal(bits(keys(20), Stream.MASK_UNION, 3), whole[:, :3])


def test_no_tile_and_no_draw() -> None:
    assert uniform(keys(0), Stream.CROP, 3).shape == (0, 3)
    assert uniform(keys(3), Stream.CROP, 0).shape == (3, 0)


def test_bits_are_never_negative_and_all_are_used() -> None:
    words = bits(keys(2000), Stream.ORDER, 4)
    assert (words >= 0).all()
    ones = torch.stack([(words >> place & 1).double().mean() for place in range(63)])
    assert (ones - 0.5).abs().max() < 5 * 0.5 / 8000**0.5


def test_uniform_is_uniform() -> None:
    draws = uniform(keys(20_000), Stream.MASK_SHARES, 5).double()
    assert draws.dtype == torch.float64
    counts = torch.histc(draws, bins=100, min=0.0, max=1.0)
    # Chi-square with 99 degrees of freedom stays below 160 but once in 10 000.
    assert ((counts - 1000) ** 2 / 1000).sum() < 160


def test_streams_rows_and_counters_are_independent() -> None:
    one = uniform(keys(20_000), Stream.CROP, 2).double()
    other = uniform(keys(20_000), Stream.FLIP, 1).double()
    epoch = uniform(keys(20_000, epoch=1), Stream.CROP, 1).double()
    columns = torch.cat([one, other, epoch, one[:, :1].roll(1, 0)], dim=1)
    correlation = torch.corrcoef(columns.T) - torch.eye(5)
    assert correlation.abs().max() < 4.5 / 20_000**0.5


@pytest.mark.parametrize("word", [0, 2**63 - 1])
def test_uniform_is_open_at_the_extremes(word: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmae.draws.bits", lambda keys_B, stream, count: torch.full((1, 1), word))
    draw = uniform(keys(1), Stream.CROP, 1)
    assert draw.dtype == torch.float32
    assert 0.0 < draw.item() < 1.0
    assert np.isfinite(draw.log().item())
    assert draw.log().item() < 0.0


@given(st.integers(1, 1000), INT64)
def test_below_stays_below(bound: int, seed: int) -> None:
    draws = below(keys(10, seed=seed), Stream.CROP, 3, bound)
    assert ((draws >= 0) & (draws < bound)).all()


def test_set_0_repeat_0_draws_by_its_rows() -> None:
    rows = np.array([0, 1, (1 << 40) - 1])
    assert draw_rows(rows, 0, 0).tolist() == rows.tolist()
    assert draw_rows(rows, np.zeros(3, np.int64), np.zeros(3, np.int64)).tolist() == rows.tolist()


def test_every_set_repeat_and_row_draws_by_a_number_of_its_own() -> None:
    ends = [(row, number, repeat) for row in (0, 5, (1 << 40) - 1)
            for number in (0, 1, MAX_SETS - 1) for repeat in (0, 1, MAX_REPEATS - 1)]  # fmt: skip
    row, number, repeat = np.array(ends).T
    drawn = draw_rows(row, number, repeat)
    assert drawn.dtype == np.int64
    assert (drawn >= 0).all()
    assert len(np.unique(drawn)) == len(ends)
