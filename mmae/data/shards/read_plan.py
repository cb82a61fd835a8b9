"""What to read for a batch of tiles, worked out for all of them at once.

Going through a tile's members one by one in Python takes a fifth of the time of decoding them.

Shape suffixes: B tiles, D the datasets up to the last wanted one, M the members to decode, R reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from mmae.data.shards.tar_layout import BLOCK

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from mmae.data.shards.columns import Columns

# If fewer bytes lie between two wanted members, one longer read is cheaper than two.
_WORTH_A_READ: Final = 1 << 14

Member = tuple[int, int, bool, int, int, int, int]
"""A member to decode: number of its tile in the batch, column of its dataset, whether the next read must come first,
where its extent begins and ends in what was read, payload bytes, checksum."""


@dataclass(frozen=True, eq=False)
class ReadPlan:
    """The reads and members of some tiles, in the tiles' order and then in stored order.

    Attributes:
        reads: (shard, first byte, bytes) of each.
        window: the most bytes of a read.
        constant: column -> numbers of the tiles whose array has no member, because it is constant.
        oversized: tile, column and first byte in the shard of members that are too large, at most one a tile. The
            tile's members are not among those to decode.
    """

    reads: Sequence[tuple[int, int, int]]
    window: int
    constant: dict[int, NDArray[np.int64]]
    oversized: Sequence[tuple[int, int, int]]
    _members: tuple[list[int], ...]

    def members(self) -> Iterator[Member]:
        return zip(*self._members, strict=True)


def plan_reads(columns: Columns, positions: NDArray[np.int64], wanted: Sequence[int], most: Sequence[int]) -> ReadPlan:
    """A plan for the tiles at `positions` (B,).

    Args:
        wanted: columns of the datasets to read, ascending.
        most: the most payload bytes of a member of each; a larger one is damaged, and no memory must be taken for it.
    """
    size_BD = columns.size[:, : max(wanted, default=-1) + 1][positions].astype(np.int64)
    extent_BD = _extent(size_BD)
    after_BD = columns.offset[positions][:, None] + extent_BD.cumsum(axis=1)
    found_BD = np.zeros(size_BD.shape, np.bool_)
    found_BD[:, wanted] = size_BD[:, wanted] > 0
    too_large_BD = np.zeros(size_BD.shape, np.bool_)
    too_large_BD[:, wanted] = size_BD[:, wanted] > np.asarray(most, np.int64)
    oversized = _first_of_each(too_large_BD, after_BD - extent_BD)
    constant = {column: np.flatnonzero(~found_BD[:, column]) for column in wanted}
    found_BD[too_large_BD.any(axis=1)] = False
    reads, members = _in_order(columns, positions, size_BD, after_BD, found_BD)
    window = max((length for *_, length in reads), default=0)
    return ReadPlan(reads, window, constant, oversized, members)


def _in_order(
    columns: Columns,
    positions: NDArray[np.int64],
    size_BD: NDArray[np.int64],
    after_BD: NDArray[np.int64],
    found_BD: NDArray[np.bool_],
) -> tuple[list[tuple[int, int, int]], tuple[list[int], ...]]:
    """The reads and the members of a plan.

    Args:
        size_BD: payload bytes.
        after_BD: the first byte behind each extent in its shard.
        found_BD: the members to decode.
    """
    tile_M, column_M = np.nonzero(found_BD)
    size_M, after_M = size_BD[tile_M, column_M], after_BD[tile_M, column_M]
    start_M = after_M - _extent(size_M)
    opens_M = np.ones(len(tile_M), np.bool_)
    opens_M[1:] = (tile_M[1:] != tile_M[:-1]) | (start_M[1:] - after_M[:-1] > _WORTH_A_READ)
    first_R = np.flatnonzero(opens_M)
    begin_R = start_M[first_R]
    after_R = after_M[np.append(first_R, len(tile_M))[1:] - 1]
    begin_M = begin_R[opens_M.cumsum() - 1]
    reads = columns.shard[positions[tile_M[first_R]]], begin_R, after_R - begin_R
    checksum_M = columns.checksum[positions[tile_M], column_M]
    members = tile_M, column_M, opens_M, start_M - begin_M, after_M - begin_M, size_M, checksum_M
    return (
        list(zip(*(each.tolist() for each in reads), strict=True)),
        tuple(each.tolist() for each in members),
    )


def _extent(size: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bytes of a member's extent; 0 where there is no member."""
    return np.where(size > 0, BLOCK + -(-size // BLOCK) * BLOCK, 0)


def _first_of_each(marked_BD: NDArray[np.bool_], start_BD: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """Row, column and `start_BD` of the first mark of each row that has one."""
    rows, columns = np.nonzero(marked_BD)
    first = np.unique(rows, return_index=True)[1]
    rows, columns = rows[first], columns[first]
    return list(zip(rows.tolist(), columns.tolist(), start_BD[rows, columns].tolist(), strict=True))
