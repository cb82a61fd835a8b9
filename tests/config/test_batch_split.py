"""How a global batch is spread."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmae.config.batch_split import split_global_batch, why_smaller
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


@pytest.mark.parametrize(
    ("global_batch", "micro_batch", "world", "micro", "better"),
    [(7, 3, 1, 1, "6 would be 2 x 3"), (14, 3, 2, 1, "12 would be 2 x 3"), (20, 8, 2, 5, "16 would be 1 x 8")],
)
def test_a_micro_batch_that_is_smaller_than_asked_is_explained(
    global_batch: int, micro_batch: int, world: int, micro: int, better: str
) -> None:
    said = why_smaller(split_global_batch(global_batch, micro_batch, world), micro_batch)
    assert said.startswith(f"train.micro_batch={micro_batch} became {micro}: each of {world} ranks has ")
    assert f"a global batch of {better} a rank" in said


@pytest.mark.parametrize(("global_batch", "micro_batch", "world"), [(8, 8, 1), (8, 64, 2), (8, 2, 2), (1, 1, 1)])
def test_one_that_is_as_asked_or_the_whole_share_needs_no_word(global_batch: int, micro_batch: int, world: int) -> None:
    assert why_smaller(split_global_batch(global_batch, micro_batch, world), micro_batch) == ""


@given(sizes, sizes, st.integers(1, 8))
def test_the_global_batch_that_is_named_is_one_that_works(share: int, micro_batch: int, world: int) -> None:
    if said := why_smaller(split_global_batch(share * world, micro_batch, world), micro_batch):
        better = int(said.partition("a global batch of ")[2].split()[0])
        assert split_global_batch(better, micro_batch, world).micro == micro_batch
