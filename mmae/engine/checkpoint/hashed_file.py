"""Files that are hashed while they are written, and are on the disk when they are closed."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from mmae.disk.files import stream_hash
from mmae.disk.regular_file import open_regular


@dataclass(frozen=True)
class Entry:
    """What a file held when it was written: its length in bytes and its xxh3-128, in hex."""

    size: int
    hash: str


class HashedFile:
    """A new file. Has what `torch.save` asks of a file that it writes to.

    A write that fails is kept, not raised, and so are all that follow: torch's writer ends the process when it fails
    while it is taken down. `close` raises.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._hash = xxhash.xxh3_128()
        self._size = 0
        self._error: OSError | None = None

    def write(self, data: Any) -> int:
        """Append bytes, or anything with a buffer."""
        size = memoryview(data).nbytes
        if self._error is None:
            try:
                self._file.write(data)
            except OSError as error:
                self._error = error
            self._hash.update(data)
            self._size += size
        return size

    def flush(self) -> None:
        """Nothing: `close` does it."""

    def close(self) -> Entry:
        """Sync and close it.

        Raises:
            OSError: something could not be written.
        """
        try:
            if self._error is not None:
                raise self._error
            self._file.flush()
            os.fsync(self._file.fileno())
        finally:
            # What is in its buffer could not be written either, if so; the first error has been raised.
            with suppress(OSError):
                self._file.close()
        return Entry(self._size, self._hash.hexdigest())


def write_hashed(path: Path, data: bytes) -> Entry:
    """Write a file at once, synced.

    Raises:
        OSError: it could not be written.
    """
    file = HashedFile(path)
    file.write(data)
    return file.close()


def hash_file(path: Path) -> Entry:
    """What a file holds now.

    Raises:
        OSError: it cannot be read.
    """
    with open_regular(path) as file:
        digest = stream_hash(file)
        return Entry(file.tell(), digest)
