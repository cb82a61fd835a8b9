"""Tiles of one HDF5 dataset as arrays: raw bytes inflated here where the layout allows, else read by HDF5.

Both ways give the same arrays. Neither takes more memory than a tile is declared to have.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from data_tools.hdf5_faults import first_line
from data_tools.inflate import inflate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from data_tools.chunks import Chunks, Storage

MISSING: Final = b""
"""What `stored` returns for a tile that was never written."""


class UnreadableTileError(Exception):
    """One array of the source cannot be read; the text says why, without naming it."""


class TileArrays(Protocol):
    """The arrays of one dataset, by number within a job."""

    def array(self, number: int) -> NDArray[Any]:
        """One tile, in either byte order.

        Raises:
            UnreadableTileError: it cannot be read, or is damaged.
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
        """A tile's bytes as they lie in the file; `MISSING` where it was never written.

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
        """The array of what `stored` gave.

        Raises:
            UnreadableTileError: damaged, or not of the declared size.
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
