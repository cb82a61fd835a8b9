from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmae.errors import InputError
from mmae.evaluate.frozen.label_fraction import take_fraction

KEYS = torch.arange(100) * 3
CLASSES = torch.arange(100) % 4


@given(st.integers(0, 1000), st.floats(0.01, 1), st.floats(0.01, 1))
def test_the_rows_of_a_smaller_share_are_among_those_of_a_larger(seed: int, first: float, second: float) -> None:
    small, large = sorted((first, second))
    few, many = (take_fraction("classes", CLASSES, KEYS, share, seed) for share in (small, large))
    assert set(few.tolist()) <= set(many.tolist())
    assert set(CLASSES[few].tolist()) == {0, 1, 2, 3}


def test_the_share_is_that_of_each_class_and_rows_are_in_order() -> None:
    rows = take_fraction("classes", CLASSES, KEYS, 0.2, seed=0)
    assert torch.bincount(CLASSES[rows]).tolist() == [5, 5, 5, 5]
    assert torch.equal(rows, rows.sort().values)
    assert torch.equal(take_fraction("values", torch.zeros(100, 1), KEYS, 1.0, seed=0), torch.arange(100))


def test_the_draw_depends_on_the_keys_and_not_on_the_order() -> None:
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    rows = take_fraction("classes", CLASSES, KEYS, 0.2, seed=0)
    turned = take_fraction("classes", CLASSES[order], KEYS[order], 0.2, seed=0)
    assert sorted(KEYS[order][turned].tolist()) == KEYS[rows].tolist()
    assert take_fraction("classes", CLASSES, KEYS, 0.2, seed=1).tolist() != rows.tolist()


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(fraction: float) -> None:
    with pytest.raises(InputError, match="label fraction"):
        take_fraction("classes", CLASSES, KEYS, fraction, seed=0)
