"""Headers of tar members in POSIX ustar format: read-only plain files without an owner, with time 0.

Python's `tarfile` writes the same bytes in twenty times the time, and a shard has sixty thousand headers.
"""

from __future__ import annotations

from typing import Final

from mmae.data.shards.tar_layout import BLOCK

END_RECORD: Final = 10240
"""As tar does it, an archive ends with two empty blocks and is padded to a multiple of this size."""

_MAX_NAME: Final = 100
_MAX_SIZE: Final = 8**11
_MODE_TO_GID: Final = b"0000444\0" + b"0000000\0" * 2
_MTIME: Final = b"00000000000\0"
_BLANK_CHECKSUM: Final = b" " * 8
_REST: Final = (b"0" + bytes(100) + b"ustar\x0000").ljust(BLOCK - 156, b"\0")
_FILL: Final = tuple(bytes(_MAX_NAME - length) for length in range(_MAX_NAME + 1))
_PADDING: Final = tuple(bytes(length) for length in range(BLOCK))
_FIXED_SUM: Final = sum(_MODE_TO_GID + b"\0" + _MTIME + _BLANK_CHECKSUM + _REST)


def header(name: str, size: int) -> bytes:
    """The 512 bytes before a plain file's content.

    Args:
        name: ASCII, at most 100 bytes.
        size: bytes of the content.

    Raises:
        ValueError: a name or size that does not fit.
    """
    named = name.encode("ascii")
    digits = b"%011o" % size
    if not 0 < len(named) <= _MAX_NAME or not 0 <= size < _MAX_SIZE:
        raise ValueError(f"member {name!r} of {size} bytes does not fit into a tar header")
    checksum = _FIXED_SUM + sum(named) + sum(digits)
    return b"%b%b%b%b\0%b%06o\0 %b" % (named, _FILL[len(named)], _MODE_TO_GID, digits, _MTIME, checksum, _REST)


def padding(size: int) -> bytes:
    """The padding after a content of `size` bytes, up to whole blocks."""
    return _PADDING[-size % BLOCK]


def end(size: int) -> bytes:
    """The end of an archive with members of `size` bytes."""
    return bytes(2 * BLOCK + -(size + 2 * BLOCK) % END_RECORD)
