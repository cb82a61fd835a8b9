"""Where a tile's members lie in its shard: plain tar, so that offsets follow from sizes.

A tile is a run of members, `<row:09d>.<dataset>.b2` for each dataset whose array is not constant, in the
order of the index's datasets, then `<row:09d>.json`. Each is one 512-byte header and its payload,
padded to 512 bytes: the member's extent, which its checksum covers whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import xxhash

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK: Final = 512


def member_name(row: int, dataset: str) -> str:
    return f"{row:09d}.{dataset}.b2"


def info_name(row: int) -> str:
    return f"{row:09d}.json"


def shard_name(split: str, number: int) -> str:
    return f"{split}-{number:06d}.tar"


def member_bytes(size: int) -> int:
    """Bytes of the extent of a member of `size` payload bytes: header and padding included."""
    return BLOCK + -(-size // BLOCK) * BLOCK


def extents(sizes: Sequence[int], info_size: int) -> Iterator[tuple[int, int, int]]:
    """Column, start and bytes of each member's extent, counted from where the tile begins.

    Args:
        sizes: payload bytes of the tile's members; 0 where there is no member.
        info_size: payload bytes of its `.json` member, whose column is the last, `len(sizes)`.
    """
    start = 0
    for column, size in enumerate(sizes):
        if size > 0:
            yield column, start, member_bytes(size)
            start += member_bytes(size)
    yield len(sizes), start, member_bytes(info_size)


def member_checksum(extent: bytes | memoryview) -> int:
    """The low 32 bits of xxh3-64 over a member's extent: the header's name tells it from another tile's member."""
    return xxhash.xxh3_64_intdigest(extent) & 0xFFFFFFFF


def members_bytes(size: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Bytes of the extents of each tile's members, int64 (N,).

    Args:
        size: payload bytes of each member, (N, D); 0 where there is no member.
    """
    # Column by column: an index of millions of tiles should not be held twice as int64.
    total = np.zeros(len(size), np.int64)
    for column in range(size.shape[1]):
        total += np.where(size[:, column] > 0, _padded(size[:, column]), 0)
    return total


def spans(size: NDArray[np.uint32], info_size: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Bytes of each tile in its shard, int64 (N,).

    Args:
        size: payload bytes of each member, (N, D); 0 where there is no member.
        info_size: payload bytes of the `.json` member, (N,).
    """
    return members_bytes(size) + _padded(info_size)


def _padded(size: NDArray[np.uint32]) -> NDArray[np.int64]:
    return BLOCK + -(-size.astype(np.int64) // BLOCK) * BLOCK
