"""The byte ranges of a dataset's tiles in an HDF5 file, so that they can be read without HDF5.

HDF5 finds and reads one chunk at a time, under a lock. If a chunk is a tile, and the filters are known, its byte range
is enough to read it. HDF5 reads every other layout.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import h5py
import numpy as np

from data_tools.source.hdf5_faults import read_fault
from data_tools.workers.pool import in_processes
from data_tools.workers.worker import Tally
from mmae.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from data_tools.source.dataset import Source

DEFLATE: Final = h5py.h5z.FILTER_DEFLATE
SHUFFLE: Final = h5py.h5z.FILTER_SHUFFLE
_PIPELINES: Final = ((), (DEFLATE,), (SHUFFLE,), (SHUFFLE, DEFLATE))

_MANY: Final = 1 << 20
"""The number of chunks that are found in about the time (a second) in which processes start."""


@dataclass(frozen=True, eq=False)
class Chunks:
    """The byte range of each tile of some rows (R).

    Attributes:
        offset: int64 (R,), byte in the file; -1 for a tile that was never written.
        size: int64 (R,), stored bytes.
        skipped: uint8 (R,), bit i is set if filter i was not applied to this tile.
    """

    offset: NDArray[np.int64]
    size: NDArray[np.int64]
    skipped: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.offset)

    def take(self, rows: NDArray[np.int64]) -> Chunks:
        """The chunks of these rows."""
        return Chunks(self.offset[rows], self.size[rows], self.skipped[rows])


@dataclass(frozen=True)
class Storage:
    """How the tiles of a dataset are stored. It is enough to turn their bytes into arrays.

    Attributes:
        dtype: in the file's byte order.
        shape: shape of one tile.
        deflate, shuffle: number of that filter in the pipeline; None if the pipeline does not have it.
        fill: the bytes of a tile that was never written, in the file's byte order; None if all tiles were written.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    deflate: int | None
    shuffle: int | None
    fill: bytes | None

    @property
    def nbytes(self) -> int:
        """Decoded bytes of one tile."""
        return self.dtype.itemsize * math.prod(self.shape)


def find_tiles(file: h5py.File, name: str) -> tuple[Storage, Chunks] | None:
    """Storage and all rows' chunks of a dataset; None if HDF5 must read its tiles.

    Raises:
        OSError, RuntimeError: the file is damaged.
    """
    dataset = file[name]
    pipeline = _pipeline(dataset)
    if pipeline is None or len(dataset) == 0:
        return None
    chunks = _chunked(dataset) if dataset.chunks else _contiguous(dataset)
    if chunks is None or not _same_bytes(file, dataset, chunks):
        return None
    missing = np.flatnonzero(chunks.offset < 0)
    fill = np.asarray(dataset[int(missing[0])], dataset.dtype).tobytes() if len(missing) else None
    place = {code: number for number, code in enumerate(pipeline)}
    return Storage(dataset.dtype, dataset.shape[1:], place.get(DEFLATE), place.get(SHUFFLE), fill), chunks


def _pipeline(dataset: h5py.Dataset) -> tuple[int, ...] | None:
    """The dataset's filters, if they can be undone here and a tile is one byte range; else None."""
    if dataset.is_virtual or dataset.external:
        return None
    if dataset.chunks not in (None, (1, *dataset.shape[1:])):
        return None
    if dataset.dtype.kind not in "iuf" or not dataset.id.get_type().equal(h5py.h5t.py_create(dataset.dtype)):
        return None
    plist = dataset.id.get_create_plist()
    filters = [plist.get_filter(number) for number in range(plist.get_nfilters())]
    for code, _, values, _ in filters:
        # Shuffle has the size of an element as a parameter. Another size would give another order of bytes.
        if code == SHUFFLE and tuple(values) != (dataset.dtype.itemsize,):
            return None
    codes = tuple(code for code, *_ in filters)
    return codes if codes in _PIPELINES else None


def _chunked(dataset: h5py.Dataset) -> Chunks | None:
    if not hasattr(dataset.id, "chunk_iter"):
        return None
    rows = len(dataset)
    offset, size, skipped = np.full(rows, -1), np.zeros(rows, np.int64), np.zeros(rows, np.uint8)

    def note(info: Any) -> None:
        row = info.chunk_offset[0]
        offset[row], size[row], skipped[row] = info.byte_offset, info.size, info.filter_mask

    dataset.id.chunk_iter(note)
    return Chunks(offset, size, skipped)


def _contiguous(dataset: h5py.Dataset) -> Chunks | None:
    begin = dataset.id.get_offset()
    if begin is None or dataset.id.get_create_plist().get_layout() != h5py.h5d.CONTIGUOUS:
        return None
    rows, nbytes = len(dataset), dataset.dtype.itemsize * math.prod(dataset.shape[1:])
    return Chunks(begin + nbytes * np.arange(rows), np.full(rows, nbytes), np.zeros(rows, np.uint8))


def _same_bytes(file: h5py.File, dataset: h5py.Dataset, chunks: Chunks) -> bool:
    """Whether HDF5 reads the same bytes for the first tile: drivers and headers may shift its offsets."""
    written = np.flatnonzero(chunks.offset >= 0)
    if len(written) == 0:
        return True
    row = int(written[0])
    if dataset.chunks:
        _, expected = dataset.id.read_direct_chunk((row,) + (0,) * (dataset.ndim - 1))
    else:
        expected = np.asarray(dataset[row], dataset.dtype).tobytes()
    with open(file.filename, "rb") as raw:
        return os.pread(raw.fileno(), int(chunks.size[row]), int(chunks.offset[row])) == bytes(expected)


def find_places(source: Source, workers: int = 1) -> tuple[dict[str, Storage], dict[str, Chunks]]:
    """Storage, and all rows' chunks, of every dataset that can be read without HDF5.

    Raises:
        InputError: the file is damaged.
    """
    names = list(source.datasets)
    if len(names) * source.info.rows < _MANY:
        workers = 1
    found = dict(in_processes(_Search(source.path), names, workers, _Silence()))
    storage = {name: found[name][0] for name in names if found[name] is not None}
    return storage, {name: found[name][1] for name in storage}


@dataclass(frozen=True)
class _Search:
    path: Path

    def __call__(self, name: str, _: Tally) -> tuple[Storage, Chunks] | None:
        try:
            with h5py.File(self.path, "r") as file:
                return find_tiles(file, name)
        except (OSError, RuntimeError) as error:
            raise InputError(f"{self.path}: {name} {read_fault(error)}") from error


class _Silence:
    def add(self, *_: Any) -> None:
        pass
