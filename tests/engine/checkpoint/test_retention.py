"""Retention: which checkpoints are removed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmae.engine.checkpoint.store import outside_retention


@pytest.mark.parametrize(
    ("steps", "last", "every", "needed", "gone"),
    [
        ([], 3, 0, [], []),
        ([1, 2, 3], 3, 0, [], []),
        ([4, 1, 3, 2], 3, 0, [], [1]),
        ([10, 20, 30, 40, 50], 1, 0, [], [10, 20, 30, 40]),
        ([10, 20, 30, 40, 50], 1, 20, [], [10, 30]),
        ([10, 20, 30, 40, 50], 2, 0, [10], [20, 30]),
        ([10, 20], 0, 0, [], [10]),
    ],
)
def test_the_rules(steps: list[int], last: int, every: int, needed: list[int], gone: list[int]) -> None:
    assert outside_retention(steps, last, every, needed) == gone


@pytest.mark.long
@given(st.sets(st.integers(0, 200)), st.integers(0, 5), st.integers(0, 50), st.sets(st.integers(0, 200)))
def test_retention_keeps_the_newest_the_multiples_and_the_needed(
    steps: set[int], last: int, every: int, needed: set[int]
) -> None:
    gone = set(outside_retention(steps, last, every, needed))
    assert gone <= steps
    assert not gone & needed
    assert not steps or max(steps) not in gone
    assert len(steps - gone) >= min(len(steps), last)
    assert not every or all(step % every for step in gone)
