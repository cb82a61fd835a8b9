"""The shards that a bench reads, packed by `mmae repack` itself and kept with the scratch files."""

from __future__ import annotations

import contextlib
import io
import os
from typing import TYPE_CHECKING, Final

from mmae.bench.scratch import need_disk_space

if TYPE_CHECKING:
    from pathlib import Path

    from mmae.bench.repeated_source import BenchSource
    from mmae.data.shards.index import Index

# Bytes of shards per byte of the HDF5 file, with a margin.
_GROWTH: Final = {"small": 1.2, "fast": 2.0, "none": 20.0}
_TILES_PER_SHARD: Final = 4096
_SHARDS_PER_PROCESS: Final = 4
_READ_BYTES: Final = 1 << 24


def packed(source: BenchSource, scratch: Path, codec: str, processes: int) -> Index:
    """The shards of a bench's source, in the page cache.

    Raises:
        InputError: the disk is too small.
    """
    from data_tools.repack.command import repack

    per_shard = tiles_per_shard(source.tiles, processes)
    out = scratch / f"{source.file.parent.name}-{codec}-{per_shard}"
    if not out.is_dir():
        need_disk_space(scratch, shard_bytes(source, codec))
    with contextlib.redirect_stdout(io.StringIO()):
        index = repack(source.file, out, codec=codec, tiles_per_shard=per_shard)
    for path in (source.file, *(out / shard.name for shard in index.shards)):
        warm(path)
    return index


def tiles_per_shard(tiles: int, processes: int) -> int:
    """A number of tiles with which every reading process gets its own shards, as the stock pipeline needs."""
    return max(1, min(_TILES_PER_SHARD, tiles // (_SHARDS_PER_PROCESS * processes)))


def shard_bytes(source: BenchSource, codec: str) -> int:
    """The approximate bytes of the shards before they are written."""
    return int(os.path.getsize(source.file) * _GROWTH[codec])


def warm(path: Path) -> None:
    """Read the whole file, so that it is in the page cache."""
    buffer = bytearray(_READ_BYTES)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
