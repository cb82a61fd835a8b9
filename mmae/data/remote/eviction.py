"""What a cache of fetched files holds, and what of it may go: a file that is locked is in use."""

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
    """Remove files that nobody uses, the longest unused first, until what is left takes `limit` bytes at most.

    Returns:
        whether it does.
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
                        # What is being fetched counts as if it were there: others plan with it.
                        size = max(int(part[1]), status.st_size) if part else status.st_size
                        yield _Entry(Path(file.path), size, status.st_mtime)


def _remove(path: Path) -> bool:
    """Remove a file that nobody uses; False where somebody does."""
    try:
        file = LockedFile(path, os.O_RDONLY)
    except FileNotFoundError:
        return True  # by another process, just now
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
