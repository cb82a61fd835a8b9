"""The hash of a file's content. It stands alone: those who only use a model do not need xxhash."""

from __future__ import annotations

from typing import IO, Final

import xxhash

_CHUNK: Final = 1 << 20


def stream_hash(file: IO[bytes]) -> str:
    """xxh3-128 of a file's content, hexadecimal; it is read in chunks."""
    file.seek(0)
    hasher = xxhash.xxh3_128()
    while chunk := file.read(_CHUNK):
        hasher.update(chunk)
    return hasher.hexdigest()
