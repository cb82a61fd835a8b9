"""Files that are hashed while they are written, and synced to the disk when they are closed."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from mmae.disk.content_hash import stream_hash
from mmae.disk.regular_file import open_regular


@dataclass(frozen=True)
class Entry:
    """A file's content: its length in bytes and its xxh3-128 hash, in hex."""

    size: int
    hash: str


class HashedFile:
    """A new file that `torch.save` can write to.

    A write that fails raises nothing until `close`: torch's writer would end the process if a write failed while the
    writer is being destroyed.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._hash = xxhash.xxh3_128()
        self._size = 0
        self._error: OSError | None = None

    def write(self, data: Any) -> int:
        """Append bytes, or any object with a buffer."""
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
        """Does nothing: `close` flushes."""

    def close(self) -> Entry:
        """Sync and close the file.

        Raises:
            OSError: a write failed.
        """
        try:
            if self._error is not None:
                raise self._error
            self._file.flush()
            os.fsync(self._file.fileno())
        finally:
            # Closing flushes the rest of the buffer, which fails again; the first error counts.
            with suppress(OSError):
                self._file.close()
        return Entry(self._size, self._hash.hexdigest())


def write_hashed(path: Path, data: bytes) -> Entry:
    """Write a whole file, synced.

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
