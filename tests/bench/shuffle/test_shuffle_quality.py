"""How well orders mix."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmae.bench.shuffle.shuffle_quality import neighbour_share, perfect, quality
from mmae.data.sampling.order import epoch_order


@given(st.lists(st.integers(0, 60), unique=True, max_size=25), st.integers(1, 12))
def test_neighbours_are_those_of_a_plain_search(rows: list[int], within: int) -> None:
    pairs = list(combinations(rows, 2))
    expected = sum(abs(a - b) <= within for a, b in pairs) / len(pairs) if pairs else 0
    assert neighbour_share(np.array(rows, np.int64), within) == pytest.approx(expected)


def test_an_order_that_never_changes_and_one_that_is_reversed() -> None:
    stored = np.arange(1000)
    assert quality([stored, stored], stored, 100).moved == 0
    # |N - 1 - 2i|, mean N / 2.
    assert quality([stored, stored[::-1]], stored, 100).moved == pytest.approx(0.5)


def test_the_stored_order_has_every_neighbour_in_its_batch() -> None:
    stored = np.arange(100)
    found = quality([stored, stored], stored, 10)
    assert found.neighbours == pytest.approx((9 / 45, 1.0))


def test_an_incomplete_last_batch_is_ignored() -> None:
    rows = np.array([0, 50, 7, 8])
    assert quality([np.arange(4)] * 2, rows, 3).neighbours[0] == 0
    assert quality([np.arange(4)] * 2, rows, 2).neighbours[0] == pytest.approx(1 / 2)


@pytest.mark.long
def test_the_expectation_is_the_mean_over_all_permutations() -> None:
    from itertools import permutations

    rows = np.array([0, 1, 2, 5, 6])
    every = [np.array(order) for order in permutations(range(5))]
    moves = [quality([one, other], rows, 2).moved for one in every[:40] for other in every]
    shares = [quality([order] * 2, rows, 2).neighbours for order in every]
    expected = perfect(rows)
    assert expected.moved == pytest.approx(np.mean(moves))
    assert expected.neighbours == pytest.approx(np.mean(shares, axis=0))


def test_the_full_shuffle_is_as_good_as_a_perfect_one() -> None:
    rows = np.arange(20_000) * 2
    orders = [epoch_order(len(rows), 0, epoch) for epoch in range(6)]
    found, expected = quality(orders, rows, 500), perfect(rows)
    assert found.moved == pytest.approx(expected.moved, abs=0.005)
    assert found.neighbours[0] == expected.neighbours[0] == 0
    assert found.neighbours[1] == pytest.approx(expected.neighbours[1], rel=0.05)
