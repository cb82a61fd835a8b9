"""Undoing deflate, the filter of MMEarth's files: with libdeflate where package `deflate` is installed, else zlib-ng.

Half of a repack's time goes here. Neither writes a byte beyond what is expected, whatever the stream holds.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Final

from zlib_ng import zlib_ng

_DAMAGED: Final = "it does not inflate to its size"

Inflate = Callable[[bytes, int], bytes]
"""Stored bytes and the size expected -> what they hold; a ValueError where they hold anything else."""


def by_zlib_ng(stored: bytes, nbytes: int) -> bytes:
    """Raises ValueError: damaged, or not `nbytes` bytes."""
    stream = zlib_ng.decompressobj()
    try:
        # One byte more, so that a sound stream comes to its end and its checksum is compared.
        content: bytes = stream.decompress(stored, nbytes + 1)
    except zlib_ng.error as error:  # type: ignore[misc]  # its stub has it as an instance
        raise ValueError(_DAMAGED) from error
    if not stream.eof or len(content) != nbytes:
        raise ValueError(_DAMAGED)
    return content


def by_libdeflate() -> Inflate | None:
    """The same through libdeflate; None where it is not installed."""
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
