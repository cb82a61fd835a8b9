"""Decodes arrays of one dataset into slots of batch arrays, with as little work for each array as possible.

All arrays of a dataset have one dtype and shape, so their headers are all but equal. A header is checked in full
(`codec`) when it is first met, and compared with the known ones from then on.
"""

from __future__ import annotations

import ctypes
import math
import struct
from typing import TYPE_CHECKING, Any, Final

from mmae.data.shards import blosc
from mmae.data.shards.codec import CodecError, decode_into, header_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

# A chunk's header, in which only the compressed bytes follow from the array's content.
_BEFORE_PACKED: Final = 12
_AFTER_PACKED: Final = 16
# Valid headers of a dataset differ in a few flags only; the cache must not grow with damaged ones.
_MAX_KNOWN: Final = 64


class Window:
    """Memory that encoded arrays are read into: `view` of `size` bytes at `address`, which does not move."""

    def __init__(self, size: int) -> None:
        self.size = size
        content = bytearray(size)
        self.view = memoryview(content)
        self.address = ctypes.addressof((ctypes.c_char * size).from_buffer(content))


class SlotDecoder:
    """Decodes arrays of one dataset. Not for several threads at once.

    Args:
        dtype: stored dtype.
        shape: the shape of one tile's array.
    """

    def __init__(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self._dtype = dtype
        self._shape = shape
        self._nbytes = math.prod(shape) * dtype.itemsize
        self._start = header_bytes(len(shape))
        self._header = struct.Struct(f"<{self._start + _BEFORE_PACKED}si{_AFTER_PACKED}s")
        self._known: set[tuple[bytes, bytes]] = set()
        library = blosc.library()
        self._decompress = None if library is None else library.blosc2_decompress
        self.max_bytes: Final = self._start + self._nbytes
        """The most bytes of an encoded array: an array that does not shrink is stored raw."""

    def into(self, window: Window, out: NDArray[Any]) -> Callable[[int, int, int], None]:
        """A function `decode(start, size, slot)`: the `size` bytes at `start` of a window become `out[slot]`.

        It raises CodecError if the bytes are not exactly one array of the dataset, and IndexError if there is no such
        slot, or if the window does not hold so many bytes.

        Args:
            out: (slots, *shape), C-contiguous and writable, of the dataset's dtype.

        Raises:
            ValueError: `out` is not as above.
        """
        self._check(out)
        # As local names of one function, these are found faster than as attributes.
        view, room, source = window.view, window.size, window.address
        target, slots, nbytes, skipped = blosc.address(out), len(out), self._nbytes, self._start
        unpack, least, known, decompress = self._header.unpack_from, self._header.size, self._known, self._decompress

        def decode(start: int, size: int, slot: int) -> None:
            if not 0 <= slot < slots or not 0 <= start <= start + size <= room:
                raise IndexError(f"slot {slot} of {slots}, bytes {start} to {start + size} of {room}")
            if decompress is None or size < least:
                decode_into(view[start : start + size], out[slot, ...])
                return
            before, packed, after = unpack(view, start)
            if packed != size - skipped or (before, after) not in known:
                self._meet(view[start : start + size], before, after, out[slot, ...])
            elif decompress(source + start + skipped, packed, target + slot * nbytes, nbytes) != nbytes:
                raise CodecError("the compressed bytes are damaged")

        return decode

    def _meet(self, encoded: memoryview, before: bytes, after: bytes, out: NDArray[Any]) -> None:
        decode_into(encoded, out)
        if encoded[5] != 0 and len(self._known) < _MAX_KNOWN:
            self._known.add((before, after))

    def _check(self, out: NDArray[Any]) -> None:
        if out.dtype != self._dtype or out.shape[1:] != self._shape or out.ndim != len(self._shape) + 1:
            raise ValueError(f"{self._dtype} {self._shape} does not fit into slots of {out.dtype} {out.shape}")
        if not (out.flags.c_contiguous and out.flags.writeable):
            raise ValueError("the slots to decode into must be C-contiguous and writable")
