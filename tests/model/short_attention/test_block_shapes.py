"""Blocks hold every row and column that exists, in sizes that Triton takes, with few that are empty."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmae.model.short_attention.block_shapes import MOST_TOKENS, MOST_WIDTH, block_shapes

SIZES = {16, 32, 64, 128}


@given(st.integers(1, MOST_TOKENS), st.integers(1, MOST_TOKENS), st.integers(1, MOST_WIDTH), st.sampled_from([2, 4]))
def test_blocks_cover_what_exists(queries: int, keys: int, width: int, number_bytes: int) -> None:
    found = block_shapes(queries, keys, width, number_bytes)
    assert {found.query_rows, found.key_rows, found.first} <= SIZES
    assert found.rest in SIZES | {0}
    assert found.rest < found.first
    for rows, length in ((found.query_rows, queries), (found.key_rows, keys)):
        assert length <= rows < max(17, 2 * length)
    # Less than half of the columns are empty, and none of the second block could be left out.
    assert width <= found.first + found.rest < max(17, 2 * width)
    assert found.rest == 0 or found.first < width


@pytest.mark.parametrize(
    ("width", "blocks"), [(5, (16, 0)), (16, (16, 0)), (64, (64, 0)), (80, (64, 16)), (88, (64, 32)), (104, (128, 0))]
)
def test_the_blocks_of_known_widths(width: int, blocks: tuple[int, int]) -> None:
    found = block_shapes(50, 50, width, 2)
    assert (found.first, found.rest) == blocks
