"""Files that are either whole under their name or not there at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

TEMPORARY: Final = ".tmp"


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """A binary file (also readable) that takes the name `path` once the block has ended without an error.

    Until then it is a neighbour, `.<name>.<this process and a draw>.tmp`, which an error takes away: of several
    processes that write `path` at once none sees another's half, and the last one's file stays.
    """
    temporary = path.with_name(f".{path.name.lstrip('.')}.{os.getpid()}-{secrets.token_hex(4)}{TEMPORARY}")
    try:
        with temporary.open("x+b") as file:
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
