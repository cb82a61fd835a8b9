"""Fractions of a split and lists of tiles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmae.data.sampling.selection import fraction_of, named

FRACTIONS = st.floats(0.001, 1)


@given(st.integers(1, 300), FRACTIONS, FRACTIONS, st.integers(-5, 5))
def test_a_fraction_is_exact_and_nested(tiles: int, one: float, other: float, seed: int) -> None:
    rows = np.arange(tiles, dtype=np.int64) * 7
    small, large = (fraction_of(rows, fraction, seed) for fraction in sorted((one, other)))
    assert small.sum() == max(1, round(min(one, other) * tiles))
    assert not (small & ~large).any()


def test_everything_and_a_single_tile() -> None:
    assert fraction_of(np.arange(9), 1.0, 0).all()
    assert fraction_of(np.array([4]), 0.001, 0).tolist() == [True]


def test_where_tiles_are_stored_does_not_matter_and_the_seed_does() -> None:
    rows = np.random.default_rng(0).permutation(200)
    taken = {int(row) for row in rows[fraction_of(rows, 0.3, 5)]}
    assert taken == set(np.flatnonzero(fraction_of(np.arange(200), 0.3, 5)).tolist())
    assert taken != set(np.flatnonzero(fraction_of(np.arange(200), 0.3, 6)).tolist())


def test_fractions_never_change() -> None:
    # A run begun years ago goes on with these tiles.
    assert np.flatnonzero(fraction_of(np.arange(20) * 3, 0.3, 5)).tolist() == [1, 3, 4, 15, 18, 19]


@given(st.lists(st.text("abé", min_size=1, max_size=5), max_size=12), st.sets(st.text("abé", min_size=1, max_size=7)))
def test_named_tiles_are_those_of_a_plain_search(ids: list[str], keys: set[str]) -> None:
    tile_ids = np.array([each.encode() for each in ids], dtype="S20")
    listed = np.array(sorted(each.encode() for each in keys), dtype="S30")
    named_N, found_K = named(tile_ids, listed)
    assert named_N.tolist() == [each in keys for each in ids]
    assert found_K.tolist() == [each.decode() in ids for each in listed.tolist()]


@pytest.mark.parametrize(("tiles", "keys"), [(0, 3), (3, 0), (0, 0)])
def test_nothing_is_named_by_nothing(tiles: int, keys: int) -> None:
    named_N, found_K = named(np.array([b"x"] * tiles, dtype="S1"), np.array([b"y"] * keys, dtype="S1"))
    assert named_N.tolist() == [False] * tiles
    assert found_K.tolist() == [False] * keys
