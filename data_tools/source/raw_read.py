"""Tiles of one HDF5 dataset as arrays: from raw bytes that are inflated here, or by HDF5 for other layouts.

Both ways give the same arrays. Neither needs more memory than the declared size of a tile.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from data_tools.source.inflate import inflate
from mmae.terminal.error_line import first_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from data_tools.source.chunks import Chunks, Storage

MISSING: Final = b""
"""The result of `stored` for a tile that was never written."""

_JOIN_BYTES: Final = 1 << 16
"""Two parts with a smaller gap are fetched together, because another request would cost more than the gap."""


class UnreadableTileError(Exception):
    """One array of the source cannot be read; the text is the reason, without the array's name."""


class TileArrays(Protocol):
    """The arrays of one dataset, by number within a job."""

    def array(self, number: int) -> NDArray[Any]:
        """One tile, in either byte order.

        Raises:
            UnreadableTileError: the tile cannot be read, or is damaged.
        """


@dataclass(frozen=True, eq=False)
class RawTiles:
    """Reads by place. `file` is a descriptor of the HDF5 file."""

    file: int
    storage: Storage
    chunks: Chunks

    def array(self, number: int) -> NDArray[Any]:
        return self.decode(number, self.stored(number))

    def stored(self, number: int) -> bytes:
        """A tile's bytes as they are in the file; `MISSING` if the tile was never written.

        Raises:
            UnreadableTileError: the file cannot be read there.
        """
        offset, size = self.chunks.offset.item(number), self.chunks.size.item(number)
        if offset < 0:
            return MISSING
        try:
            content = os.pread(self.file, size, offset)
        except OSError as error:
            raise UnreadableTileError(f"cannot be read ({error.strerror})") from error
        if len(content) != size:
            raise UnreadableTileError("cannot be read (the file ends before it)")
        return content

    def decode(self, number: int, stored: bytes) -> NDArray[Any]:
        """The array in the bytes that `stored` returned.

        Raises:
            UnreadableTileError: the bytes are damaged, or not of the declared size.
        """
        storage, skipped = self.storage, self.chunks.skipped.item(number)
        if self.chunks.offset.item(number) < 0:
            assert storage.fill is not None
            return np.frombuffer(storage.fill, storage.dtype).reshape(storage.shape)
        nbytes = storage.nbytes
        if storage.deflate is not None and not skipped >> storage.deflate & 1:
            try:
                stored = inflate(stored, nbytes)
            except ValueError as error:
                raise UnreadableTileError(f"cannot be read (damaged: {error})") from error
        if len(stored) != nbytes:
            raise UnreadableTileError(f"cannot be read (damaged: {len(stored)} bytes, not {nbytes})")
        if storage.shuffle is not None and not skipped >> storage.shuffle & 1:
            planes = np.frombuffer(stored, np.uint8).reshape(storage.dtype.itemsize, -1)
            return np.ascontiguousarray(planes.T).view(storage.dtype).reshape(storage.shape)
        return np.frombuffer(stored, storage.dtype).reshape(storage.shape)


@dataclass(frozen=True, eq=False)
class PlainTiles:
    """Reads through HDF5. `dataset` is h5py's, kept open."""

    dataset: Any
    rows: NDArray[np.int64]

    def array(self, number: int) -> NDArray[Any]:
        try:
            return np.asarray(self.dataset[self.rows.item(number)])
        except (OSError, RuntimeError) as error:
            raise UnreadableTileError(f"cannot be read ({first_line(error)})") from error


def will_need(file: int, tiles: Sequence[Chunks], begin: int, end: int) -> None:
    """Tell the system to read the chunks of tiles `begin` to `end` of every dataset, in the order of the file.

    Args:
        file: descriptor of the HDF5 file.
        tiles: the chunks of each dataset, by number within the shard.
    """
    if not tiles or begin >= end or not hasattr(os, "posix_fadvise"):
        return
    offset = np.concatenate([chunks.offset[begin:end] for chunks in tiles])
    size = np.concatenate([chunks.size[begin:end] for chunks in tiles])
    order = np.argsort(offset)[np.count_nonzero(offset < 0) :]
    start, stop = offset[order], np.maximum.accumulate((offset + size)[order])
    if len(start) == 0:
        return
    first = np.flatnonzero(np.append(True, start[1:] > stop[:-1] + _JOIN_BYTES))
    last = np.append(first[1:] - 1, len(start) - 1)
    for left, right in zip(start[first].tolist(), stop[last].tolist(), strict=True):
        os.posix_fadvise(file, left, right - left, os.POSIX_FADV_WILLNEED)
