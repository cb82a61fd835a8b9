"""The folder for a bench's files: a temporary one, or one that is kept for the next run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mmae.disk.files import ending_cleanly
from mmae.disk.free_space import need_space
from mmae.errors import InputError

# This much space is left free for others.
_SPARE_BYTES: Final = 1 << 29


@contextmanager
def scratch_folder(asked: Path | None) -> Iterator[Path]:
    """The folder to work in.

    Raises:
        InputError: it cannot be created.
    """
    if asked is None:
        with ending_cleanly(), tempfile.TemporaryDirectory(prefix="mmae-bench-") as folder:
            yield Path(folder)
        return
    try:
        asked.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--scratch {asked}: cannot be made ({error.strerror}): choose another") from error
    yield asked


def need_disk_space(folder: Path, needed: int) -> None:
    """Refuse work that would fill the disk, before anything is written.

    Raises:
        InputError: the folder's disk has less free space than `needed` bytes and a reserve.
    """
    need_space(folder, needed + _SPARE_BYTES, "give another --scratch, or fewer --tiles")
