"""The files in a cache, and which of them may be removed: a locked file is in use."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mmae.disk.file_lock import LockedFile

_SET: Final = re.compile(r"mmae-[0-9a-f]{32}")
_WHOLE: Final = re.compile(r"\w+-\d{6,}\.tar|index\.npz|index\.json", re.ASCII)
_PART: Final = re.compile(rf"\.(?:{_WHOLE.pattern})\.(\d+)\.part", re.ASCII)


def set_folder(set_hash: str) -> str:
    """Name of the folder of a file set."""
    return f"mmae-{set_hash}"


def part_name(name: str, size: int) -> str:
    """Name of a file that will be `size` bytes while it is not whole."""
    return f".{name}.{size}.part"


@dataclass(frozen=True)
class _Entry:
    path: Path
    bytes: int
    used: float


def evict(root: Path, limit: int) -> bool:
    """Remove unused files, the least recently used first, until the others take at most `limit` bytes.

    Returns:
        whether that was possible.
    """
    entries = sorted(_entries(root), key=lambda entry: entry.used)
    excess = sum(entry.bytes for entry in entries) - limit
    for entry in entries:
        if excess <= 0:
            break
        if _remove(entry.path):
            excess -= entry.bytes
    return excess <= 0


def _entries(root: Path) -> Iterator[_Entry]:
    for folder in root.iterdir():
        if not _SET.fullmatch(folder.name) or folder.is_symlink():
            continue
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as files:
            for file in files:
                part = _PART.fullmatch(file.name)
                if part or _WHOLE.fullmatch(file.name):
                    with suppress(FileNotFoundError):
                        status = file.stat(follow_symlinks=False)
                        # A file that is being fetched counts with its full size: other processes rely on that.
                        size = max(int(part[1]), status.st_size) if part else status.st_size
                        yield _Entry(Path(file.path), size, status.st_mtime)


def _remove(path: Path) -> bool:
    """Remove a file unless a process uses it; returns whether it was removed."""
    try:
        file = LockedFile(path, os.O_RDONLY)
    except FileNotFoundError:
        return True  # Another process has just removed it.
    except OSError:
        return False
    with closing(file):
        if not (file.lock(exclusive=True) and file.is_named()):
            return False
        try:
            path.unlink()
        except OSError:
            return False
    with suppress(OSError):
        path.parent.rmdir()
    return True
