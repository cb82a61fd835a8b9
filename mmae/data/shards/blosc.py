"""Blosc2 chunks. If the wheel ships libblosc2, it is called directly: it keeps its working memory between calls.

The Python wrapper makes a context for each array, which costs more than a small array itself. Only functions
without structures are called, so that no layout of another version is relied on. The interpreter's lock is held
while the library runs: two threads never meet in its one context, and a fork never happens in the middle.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import blosc2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEADER_BYTES: Final = 32
"""Bytes of a chunk's header, which is also the most that a chunk may be longer than its content."""

# By default Blosc2 chooses by machine and version, but the bytes must depend on the array alone.
BLOCK_SIZE: Final = 1 << 15
LEVEL: Final = 1


class Settings(NamedTuple):
    """How one codec compresses."""

    codec: Any
    filter: Any
    flag: int
    """The codec's number in the three high bits of a chunk's flags."""
    name: bytes


FAST: Final = Settings(blosc2.Codec.LZ4, blosc2.Filter.SHUFFLE, 1, b"lz4")
SMALL: Final = Settings(blosc2.Codec.ZSTD, blosc2.Filter.BITSHUFFLE, 4, b"zstd")

_ADDRESS: Final = ctypes.c_void_p
_BYTES: Final = ctypes.c_int32
_SIGNATURES: Final = MappingProxyType(
    {
        "blosc2_init": (None,),
        "blosc2_decompress": (ctypes.c_int, _ADDRESS, _BYTES, _ADDRESS, _BYTES),
        "blosc2_compress": (ctypes.c_int, ctypes.c_int, ctypes.c_int, _BYTES, _ADDRESS, _BYTES, _ADDRESS, _BYTES),
        "blosc1_set_compressor": (ctypes.c_int, ctypes.c_char_p),
        "blosc1_set_blocksize": (None, ctypes.c_size_t),
        "blosc1_set_splitmode": (None, ctypes.c_int),
    }
)
_FLAGS: Final = 2
_NOT_SPLIT: Final = 0x10
_FILTERS: Final = slice(16, 22)


@cache
def library() -> Any:
    """libblosc2. None if the wheel does not ship it, or if `BLOSC_*` variables would change its output."""
    if any(name.startswith("BLOSC_") for name in os.environ):
        return None
    try:
        loaded = ctypes.PyDLL(str(Path(blosc2.__file__).with_name("lib") / "libblosc2.so"))
        for name, (result, *arguments) in _SIGNATURES.items():
            function = getattr(loaded, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError):
        return None
    loaded.blosc2_init()
    return loaded


def compress(plain: NDArray[Any], settings: Settings) -> bytes | memoryview:
    """A C-contiguous array of at least one byte as one chunk; the same bytes with and without `library`.

    Raises:
        RuntimeError: Blosc2 failed.
    """
    loaded = library()
    return _by_wrapper(plain, settings) if loaded is None else _by_library(loaded, plain, settings)


def set_up(loaded: Any, settings: Settings) -> None:
    """Have the library's `blosc2_compress` use a codec."""
    loaded.blosc1_set_compressor(settings.name)
    loaded.blosc1_set_blocksize(BLOCK_SIZE)
    loaded.blosc1_set_splitmode(blosc2.SplitMode.FORWARD_COMPAT_SPLIT.value)


def _by_wrapper(plain: NDArray[Any], settings: Settings) -> bytes:
    chunk: bytes = blosc2.compress2(
        plain.reshape(-1).view(np.uint8),
        typesize=plain.itemsize,
        codec=settings.codec,
        clevel=LEVEL,
        filters=[settings.filter],
        filters_meta=[0],
        blocksize=BLOCK_SIZE,
        nthreads=1,
    )
    return chunk


def _by_library(loaded: Any, plain: NDArray[Any], settings: Settings) -> memoryview:
    set_up(loaded, settings)  # Set each time: other code of the process may use the library too.
    buffer = np.empty(plain.nbytes + HEADER_BYTES, np.uint8)
    shuffle, itemsize = settings.filter.value, plain.itemsize
    source, target = address(plain), address(buffer)
    length = loaded.blosc2_compress(LEVEL, shuffle, itemsize, source, plain.nbytes, target, buffer.nbytes)
    if length <= 0:
        raise RuntimeError(f"Blosc2 failed to compress ({length})")
    chunk = buffer.data
    if chunk[_FLAGS] >> 5 != settings.flag:  # Another thread has set another codec in the meantime.
        return memoryview(_by_wrapper(plain, settings))
    # This function puts the filter in the last of six places, the wrapper in the first; and it leaves out a shuffle
    # of single bytes, which changes nothing but a flag.
    chunk[_FILTERS] = bytes((shuffle, 0, 0, 0, 0, 0))
    if itemsize == 1 and settings.filter is blosc2.Filter.SHUFFLE:
        chunk[_FLAGS] &= ~_NOT_SPLIT
    return chunk[:length]


def address(array: NDArray[Any]) -> int:
    """Where an array's first element is in memory; `array.ctypes.data` in a third of the time."""
    place: int = array.__array_interface__["data"][0]
    return place
