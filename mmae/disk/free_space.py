"""Free disk space, checked before the first byte is written."""

from __future__ import annotations

import shutil
from pathlib import Path

from mmae.errors import InputError


def need_space(folder: Path, needed: int, remedy: str) -> None:
    """Refuse to write more than fits on the disk, before anything is written.

    Args:
        folder: where to write. If it does not exist yet, the nearest existing folder above it is checked.
        needed: bytes.
        remedy: what to do, for the message.

    Raises:
        InputError: fewer bytes are free.
    """
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if free < needed:
        raise InputError(f"{folder}: {_size(free)} are free and {_size(needed)} are needed: {remedy}")


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e8 else f"{count / 1e6:,.1f} MB"
