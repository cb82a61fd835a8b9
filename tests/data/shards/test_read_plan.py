"""What is read for a batch, compared with going through each tile's members one by one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mmae.data.shards.read_plan import ReadPlan, plan_reads
from mmae.data.shards.tar_layout import BLOCK, extents

DATASETS = 5
GAP = 1 << 14


def some_columns(seed: int, tiles: int) -> Any:
    """Tiles with members of all sizes, a third of which are absent."""
    draw = np.random.default_rng(seed)
    size = draw.choice([0, 1, 512, 513, 9_000, 40_000], (tiles, DATASETS), p=[0.35, 0.1, 0.1, 0.1, 0.25, 0.1])
    return SimpleNamespace(
        size=size.astype(np.uint32),
        offset=draw.integers(0, 1 << 40, tiles),
        shard=draw.integers(0, 3, tiles).astype(np.int32),
        checksum=draw.integers(1, 1 << 32, (tiles, DATASETS + 1), np.uint32),
    )


def one_by_one(columns: Any, positions: list[int], wanted: list[int]) -> tuple[list[Any], list[Any]]:
    """The reads and the members, with places in the shard."""
    reads: list[Any] = []
    members = []
    for tile, position in enumerate(positions):
        end = None
        for column, start, length in extents(columns.size[position].tolist(), 1):
            if column not in wanted:
                continue
            begin = int(columns.offset[position]) + start
            opens = end is None or begin - end > GAP
            if opens:
                reads.append([int(columns.shard[position]), begin, 0])
            end = begin + length
            reads[-1][2] = end - reads[-1][1]
            size, checksum = int(columns.size[position, column]), int(columns.checksum[position, column])
            members.append((tile, column, opens, begin, end, size, checksum))
    return [tuple(read) for read in reads], members


def placed(plan: ReadPlan) -> list[Any]:
    """A plan's members with places in the shard."""
    reads, begin, found = iter(plan.reads), 0, []
    for tile, column, opens, start, end, size, checksum in plan.members():
        if opens:
            _, begin, _ = next(reads)
        found.append((tile, column, opens, begin + start, begin + end, size, checksum))
    assert next(reads, None) is None
    return found


@pytest.mark.parametrize("wanted", [[0], [0, 1, 2, 3, 4], [0, 4], [1, 3], []])
def test_it_is_what_going_through_each_tile_gives(wanted: list[int]) -> None:
    columns = some_columns(len(wanted), 60)
    positions = [3, 59, 3, *range(40)]
    plan = plan_reads(columns, np.array(positions), wanted, [1 << 20] * len(wanted))
    reads, members = one_by_one(columns, positions, wanted)
    assert plan.reads == reads
    assert placed(plan) == members
    assert plan.window == max((length for *_, length in reads), default=0)
    assert plan.oversized == []
    for column in wanted:
        absent = [tile for tile, position in enumerate(positions) if columns.size[position, column] == 0]
        assert plan.constant[column].tolist() == absent


def test_no_tiles_need_no_read() -> None:
    plan = plan_reads(some_columns(0, 4), np.zeros(0, np.int64), [1, 2], [10, 10])
    assert (list(plan.reads), list(plan.members()), plan.window) == ([], [], 0)


def test_a_tile_with_a_member_too_large_is_not_read_at_all() -> None:
    columns = some_columns(1, 3)
    columns.size[:] = 100
    columns.size[1, 2] = (1 << 32) - 1
    plan = plan_reads(columns, np.array([0, 1, 2]), [0, 2, 3], [100, 100, 100])
    assert plan.oversized == [(1, 2, int(columns.offset[1]) + 4 * BLOCK)]
    assert {tile for tile, *_ in plan.members()} == {0, 2}
    assert plan.window == 8 * BLOCK
