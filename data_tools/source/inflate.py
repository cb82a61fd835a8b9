"""Inflating deflate streams, the filter of MMEarth's files: by libdeflate if `deflate` is installed, else by zlib-ng.

It takes half of a repack's time. Neither library writes a byte beyond the expected size, whatever the stream holds.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Final

from zlib_ng import zlib_ng

_DAMAGED: Final = "it does not inflate to its size"

Inflate = Callable[[bytes, int], bytes]
"""Stored bytes and the expected size -> the content; a ValueError if the content has another size."""


def by_zlib_ng(stored: bytes, nbytes: int) -> bytes:
    """Inflate by zlib-ng. It raises ValueError if the stream is damaged or does not hold `nbytes` bytes."""
    stream = zlib_ng.decompressobj()
    try:
        # One more byte lets an undamaged stream reach its end, where its checksum is compared.
        content: bytes = stream.decompress(stored, nbytes + 1)
    except zlib_ng.error as error:  # type: ignore[misc]  # its stub has it as an instance
        raise ValueError(_DAMAGED) from error
    if not stream.eof or len(content) != nbytes:
        raise ValueError(_DAMAGED)
    return content


def by_libdeflate() -> Inflate | None:
    """The same function by libdeflate; None if it is not installed."""
    try:
        library: Any = importlib.import_module("deflate")
        decompress, failure = library.zlib_decompress, library.DeflateError
    except (ImportError, AttributeError):
        return None

    def inflate(stored: bytes, nbytes: int) -> bytes:
        try:
            content: bytes = decompress(stored, nbytes)
        except failure as error:
            raise ValueError(_DAMAGED) from error
        if len(content) != nbytes:
            raise ValueError(_DAMAGED)
        return content

    return inflate


inflate: Inflate = by_libdeflate() or by_zlib_ng
