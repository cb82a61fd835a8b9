"""How a global batch is spread."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmae.batching import split_global_batch
from mmae.errors import InputError

sizes = st.integers(1, 512)


@given(sizes, sizes, st.integers(1, 64))
def test_a_split_keeps_the_global_batch_and_the_bound(global_batch: int, micro_batch: int, world: int) -> None:
    if global_batch % world:
        with pytest.raises(InputError, match="cannot be split"):
            split_global_batch(global_batch, micro_batch, world)
        return
    split = split_global_batch(global_batch, micro_batch, world)
    assert split.global_batch == global_batch
    assert 1 <= split.micro <= micro_batch
    fewer = [a for a in range(1, split.accumulation) if (global_batch // world) % a == 0]
    assert all(global_batch // world // a > micro_batch for a in fewer)


@pytest.mark.parametrize(
    ("global_batch", "world", "near"), [(12, 5, "4 or 6 ranks"), (12, 13, "use 12 ranks"), (7, 2, "1 or 7 ranks")]
)
def test_a_world_that_does_not_divide_is_told_the_nearest_that_do(global_batch: int, world: int, near: str) -> None:
    with pytest.raises(InputError, match=near):
        split_global_batch(global_batch, 8, world)
