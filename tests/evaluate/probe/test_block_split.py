from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mmae.data.sampling.earth_grid import EARTH_KM, EarthGrid, unit_vectors
from mmae.errors import InputError
from mmae.evaluate.probe.block_split import Places, place_groups, split_blocks, split_val, with_gap


def drawn(seed: int, count: int = 300, spread: float = 3.0) -> Places:
    draw = np.random.default_rng(seed)
    lat, lon = draw.uniform(-spread, spread, (2, count))
    return Places(50 + lat, 179 + lon, draw.permutation(10_000)[:count])


def distances(places: Places) -> NDArray[np.float64]:
    points = unit_vectors(places.lat, places.lon)
    found: NDArray[np.float64] = EARTH_KM * np.linalg.norm(points[:, None] - points[None], axis=2)
    return found


@given(st.integers(0, 10_000), st.floats(20, 150), st.floats(0, 40))
def test_no_block_is_in_two_parts_and_the_gap_is_kept(seed: int, block_km: float, gap_km: float) -> None:
    places = drawn(seed)
    try:
        part_N = split_blocks(places, block_km, gap_km, seed)
    except InputError:
        assume(False)
    blocks = EarthGrid(block_km).keys(places.lat, places.lon)
    for block in np.unique(blocks):
        assert len(set(part_N[blocks == block].tolist()) - {-1}) <= 1
    other = (part_N[:, None] != part_N[None]) & (part_N[:, None] >= 0) & (part_N[None] >= 0)
    assert not (other & (distances(places) < gap_km - 1e-6)).any()


@given(st.integers(0, 1000))
def test_the_order_of_tiles_changes_nothing(seed: int) -> None:
    places = drawn(seed)
    order = np.random.default_rng(seed).permutation(len(places.row))
    turned = Places(places.lat[order], places.lon[order], places.row[order])
    first, second = (split_blocks(each, 80, 5, seed) for each in (places, turned))
    np.testing.assert_array_equal(first[order], second)


def test_parts_have_about_their_shares_and_the_seed_draws_others() -> None:
    places = drawn(0, 2000)
    part_N = split_blocks(places, 40, 0, 0)
    np.testing.assert_allclose(np.bincount(part_N) / 2000, (0.6, 0.2, 0.2), atol=0.03)
    assert (part_N != split_blocks(places, 40, 0, 1)).any()
    np.testing.assert_allclose(np.bincount(split_val(places, 40, 0)) / 2000, (0.8, 0.2), atol=0.03)


def test_only_tiles_near_another_part_are_left_out() -> None:
    places = Places(np.array([0, 0.05, 0.1, 5.0]), np.zeros(4), np.arange(4))
    part_N = np.array([0, 0, 1, 2], np.int8)
    np.testing.assert_array_equal(with_gap(places, part_N, 8.0), [0, -1, 1, 2])
    np.testing.assert_array_equal(with_gap(places, part_N, 0.0), part_N)
    with pytest.raises(InputError, match="a gap of 50 km between the parts leaves no tile in train"):
        with_gap(places, part_N, 50.0)


def test_too_few_blocks_are_refused() -> None:
    with pytest.raises(InputError, match=r"300 tiles lie in 2 blocks of 15000 km, and 3 parts need as many"):
        split_blocks(drawn(0), 15_000, 0, 0)


def test_tiles_that_may_share_ground_are_of_one_group_mostly() -> None:
    lat = np.array([0.001, 0.002, 3.0])
    first, near, far = place_groups(Places(lat, lat, np.arange(3)), 0.64)
    assert first == near
    assert first != far
