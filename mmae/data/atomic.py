"""Files that are either whole under their name or not there at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

TEMPORARY: Final = ".tmp"


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """A binary file (also readable) that takes the name `path` once the block has ended without an error.

    Until then it is a neighbour whose name begins with a dot and ends with `.tmp`; an error takes it away.
    """
    temporary = path.with_name(f".{path.name.lstrip('.')}{TEMPORARY}")
    try:
        with temporary.open("w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """Make what a file holds, or the renames and removals in a folder, last through a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
