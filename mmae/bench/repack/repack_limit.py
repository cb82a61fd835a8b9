"""The upper limit of any repack: data is inflated and compressed in memory, and nothing else happens."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import h5py
import numpy as np

from mmae.bench.clock import Speed, Stopwatch
from mmae.bench.in_parallel import together
from mmae.bench.repack.repack_ways import Job
from mmae.data.shards import blosc

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Inflate = Callable[[bytes, int], bytes]

# These are more tiles than any CPU cache holds, and few enough that every process can hold them in memory.
_MAX_TILES: Final = 1024
_GZIP: Final = 1
_SHUFFLE: Final = 2
_TRIALS: Final = 200


@dataclass(frozen=True)
class PackLimit:
    """Inflates each tile's chunks, then compresses the arrays that are not constant, from memory to memory."""

    job: Job

    def measure(self, processes: int) -> Speed:
        tiles = list(_tiles(self.job))
        return together(lambda: _pack_all(tiles, self.job.codec, self.job.tiles // processes), processes)


@dataclass(frozen=True)
class _Chunk:
    """One tile of a dataset as the file stores it, and the array that it decodes to."""

    stored: bytes
    gzip: bool
    shuffle: bool
    array: NDArray[Any]
    constant: bool


def fastest_inflate(samples: list[tuple[bytes, int]]) -> tuple[str, Inflate]:
    """The name and the function of the installed zlib library that inflates `samples` in the shortest time.

    Args:
        samples: (stored bytes, number of inflated bytes) of each.
    """
    timed: list[tuple[float, str, Inflate]] = []
    for name, inflate in _inflaters():
        begin = time.perf_counter()
        for stored, nbytes in samples:
            inflate(stored, nbytes)
        timed.append((time.perf_counter() - begin, name, inflate))
    _, name, inflate = min(timed, key=lambda entry: entry[0])
    return name, inflate


def _inflaters() -> Iterator[tuple[str, Inflate]]:
    from zlib_ng import zlib_ng

    yield "zlib-ng", partial(_sized, zlib_ng.decompress)
    with suppress(ImportError):
        yield "isal", partial(_sized, importlib.import_module("isal.isal_zlib").decompress)
    with suppress(ImportError):
        yield "libdeflate", importlib.import_module("deflate").zlib_decompress


def _sized(decompress: Callable[..., bytes], stored: bytes, nbytes: int) -> bytes:
    return decompress(stored, bufsize=nbytes)


def inflate_name(job: Job) -> str:
    """The name of the library that the limit inflates with."""
    return fastest_inflate(_samples(list(_tiles(job, 8))))[0]


def _samples(tiles: list[list[_Chunk]]) -> list[tuple[bytes, int]]:
    return [(chunk.stored, chunk.array.nbytes) for tile in tiles for chunk in tile if chunk.gzip][:_TRIALS]


def _tiles(job: Job, most: int = _MAX_TILES) -> Iterator[list[_Chunk]]:
    with h5py.File(job.file, "r") as file:
        for row in range(min(job.tiles, most)):
            yield [_chunk(file[name], row) for name in job.datasets]


def _chunk(data: h5py.Dataset, row: int) -> _Chunk:
    array = np.asarray(data[row])
    bits = np.ascontiguousarray(array).reshape(-1).view(f"u{array.dtype.itemsize}")
    constant = bool((bits == bits[:1]).all())
    rest = (0,) * (data.ndim - 1)
    if data.chunks != (1, *data.shape[1:]) or data.id.get_chunk_info_by_coord((row, *rest)).byte_offset is None:
        return _Chunk(array.tobytes(), False, False, array, constant)
    _, stored = data.id.read_direct_chunk((row, *rest))
    filters = data.id.get_create_plist()
    codes = [filters.get_filter(number)[0] for number in range(filters.get_nfilters())]
    if not set(codes) <= {_GZIP, _SHUFFLE}:
        return _Chunk(array.tobytes(), False, False, array, constant)
    return _Chunk(stored, _GZIP in codes, _SHUFFLE in codes, array, constant)


def _pack_all(tiles: list[list[_Chunk]], codec: str, count: int) -> Speed:
    _, inflate = fastest_inflate(_samples(tiles))
    compress = _compressor(codec, max(chunk.array.nbytes for tile in tiles for chunk in tile))
    chunks = [(chunk, chunk.array.nbytes, chunk.array.ctypes.data) for tile in tiles for chunk in tile]
    rounds = -(-count // len(tiles))
    watch = Stopwatch()
    for _ in range(rounds):
        for chunk, nbytes, address in chunks:
            raw = inflate(chunk.stored, nbytes) if chunk.gzip else chunk.stored
            if chunk.shuffle:
                np.ascontiguousarray(np.frombuffer(raw, np.uint8).reshape(chunk.array.itemsize, -1).T)
            if not chunk.constant and nbytes > blosc.HEADER_BYTES:
                compress(chunk.array, address)
    return watch.speed(rounds * len(tiles))


def _compressor(codec: str, most: int) -> Callable[[NDArray[Any], int], object]:
    """A function that compresses an array, given with its address, into one buffer. For `none` it does nothing."""
    if codec == "none":
        return lambda _array, _address: None
    settings = {"fast": blosc.FAST, "small": blosc.SMALL}[codec]
    library = blosc.library()
    if library is None:
        return lambda array, _address: blosc.compress(array, settings)
    blosc.set_up(library, settings)
    buffer = np.empty(most + blosc.HEADER_BYTES, np.uint8)
    target, room, shuffle, call = buffer.ctypes.data, buffer.nbytes, settings.filter.value, library.blosc2_compress

    def compress(array: NDArray[Any], address: int, _held: NDArray[np.uint8] = buffer) -> object:
        return call(blosc.LEVEL, shuffle, array.itemsize, address, array.nbytes, target, room)

    return compress
