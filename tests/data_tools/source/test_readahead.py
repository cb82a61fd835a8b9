from __future__ import annotations

import os
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_tools.source.chunks import Chunks
from data_tools.source.raw_read import will_need

FAR = 1 << 20


def chunks(*extents: tuple[int, int]) -> Chunks:
    offset, size = np.array(extents, np.int64).reshape(-1, 2).T
    return Chunks(offset, size, np.zeros(len(offset), np.uint8))


def announced(tiles: list[Chunks], begin: int, end: int) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "posix_fadvise", lambda _, start, length, __: found.append((start, start + length)))
        will_need(7, tiles, begin, end)
    return found


def test_neighbours_are_announced_together() -> None:
    first, second = chunks((FAR, 10), (100, 50), (5 * FAR, 7)), chunks((FAR + 20, 5), (0, 100), (3 * FAR, 1))
    assert announced([first, second], 0, 2) == [(0, 150), (FAR, FAR + 25)]
    assert announced([first, second], 2, 9) == [(3 * FAR, 3 * FAR + 1), (5 * FAR, 5 * FAR + 7)]


def test_nothing_to_announce() -> None:
    assert announced([], 0, 5) == []
    assert announced([chunks((3, 4))], 1, 1) == []
    assert announced([chunks((3, 4))], 1, 5) == []
    assert announced([chunks((-1, 0), (-1, 0))], 0, 2) == []
    assert announced([chunks((-1, 0), (9, 3))], 0, 2) == [(9, 12)]


@pytest.mark.long
@given(st.lists(st.tuples(st.integers(-1, 40 * FAR), st.integers(1, 9000)), min_size=1, max_size=40), st.data())
def test_every_chunk_is_covered_once(extents: list[tuple[int, int]], data: Any) -> None:
    end = data.draw(st.integers(0, len(extents)))
    begin = data.draw(st.integers(0, end))
    found = announced([chunks(*extents)], begin, end)
    assert all(left < right for left, right in found)
    assert all(one[1] < other[0] for one, other in pairwise(found))
    for offset, size in extents[begin:end]:
        covering = [left <= offset and offset + size <= right for left, right in found]
        assert sum(covering) == (offset >= 0)


def test_systems_without_such_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "posix_fadvise")
    will_need(7, [chunks((3, 4))], 0, 1)
