"""The folder of a run's checkpoints: names, the commit, retention, and damaged checkpoints.

    global_stepN             a whole checkpoint
    latest                   the newest checkpoint's name, for DeepSpeed's own programs
    damaged-global_stepN     was found damaged at a start
    .saving-global_stepN     being written
    .replaced-global_stepN   the former checkpoint of a step that is saved again
    .deleting-global_stepN   being removed

Only the holder of the run's lock changes the folder.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

from mmae.disk.files import sync, write_whole
from mmae.disk.regular_file import read_regular
from mmae.engine.checkpoint.manifest import MANIFEST, Files, render
from mmae.run.layout import CHECKPOINT_GLOB, CONVERTED, LATEST

DAMAGED: Final = "damaged-"
SAVING: Final = ".saving-"
_REPLACED: Final = ".replaced-"
_DELETING: Final = ".deleting-"
LEFTOVERS: Final = (SAVING, _DELETING, CONVERTED)
"""Beginnings of names of what a killed process left. A replaced checkpoint is none: `recover` may bring it back."""


def pointed_at(checkpoints: Path) -> str:
    """The name in the file `latest`, whether or not there is such a checkpoint; empty without the file."""
    try:
        return read_regular(checkpoints / LATEST).decode(errors="replace").strip()
    except OSError:
        return ""


def damaged_ones(checkpoints: Path) -> list[Path]:
    """Checkpoints that were renamed because they are damaged."""
    return sorted(checkpoints.glob(f"{DAMAGED}{CHECKPOINT_GLOB}"))


def size_of(folder: Path) -> int:
    """Bytes of the files in a folder and below it."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def commit(temporary: Path, final: Path, files: Files) -> None:
    """Give a checkpoint its manifest and its final name. All its files are on the disk.

    If the process is killed at any moment, `recover` finds the former checkpoints, with or without this one.

    Raises:
        OSError: the commit failed.
    """
    for name, entry in files.items():
        # Opening makes a network file system's client ask its server.
        with (temporary / name).open("rb") as file:
            if os.fstat(file.fileno()).st_size != entry.size:
                raise OSError(errno.EIO, "is not what its rank wrote: do all nodes share it?", str(temporary / name))
    write_whole(temporary / MANIFEST, render(files))
    for folder in {path.parent for path in (temporary / name for name in files)} | {temporary}:
        sync(folder)
    former = final.with_name(f"{_REPLACED}{final.name}")
    if final.exists():
        shutil.rmtree(former, ignore_errors=True)
        os.rename(final, former)
    os.rename(temporary, final)
    sync(final.parent)
    # mmae does not need the file `latest`: a failure does not matter.
    with suppress(OSError):
        write_whole(final.parent / LATEST, final.name)
    shutil.rmtree(former, ignore_errors=True)


def recover(checkpoints: Path) -> None:
    """Clean up after a killed process: a step's former checkpoint gets its name back, half-written ones are removed."""
    for former in sorted(checkpoints.glob(f"{_REPLACED}*")):
        final = former.with_name(former.name.removeprefix(_REPLACED))
        if final.exists():
            shutil.rmtree(former, ignore_errors=True)
        else:
            os.rename(former, final)
            sync(checkpoints)
    for start in LEFTOVERS:
        for leftover in checkpoints.glob(f"{start}*"):
            shutil.rmtree(leftover, ignore_errors=True)


def remove(checkpoint: Path) -> None:
    """Remove a checkpoint. It is renamed first, so that no half-removed checkpoint has a checkpoint's name.

    Raises:
        OSError: it could not be renamed. What cannot be removed after that, `recover` tries again.
    """
    going = checkpoint.with_name(f"{_DELETING}{checkpoint.name}")
    shutil.rmtree(going, ignore_errors=True)
    os.rename(checkpoint, going)
    shutil.rmtree(going, ignore_errors=True)


def archive_damaged(checkpoint: Path) -> Path:
    """Rename a damaged checkpoint; nothing is removed.

    Returns:
        its new name.
    """
    archive = unused(checkpoint.with_name(f"{DAMAGED}{checkpoint.name}"))
    os.rename(checkpoint, archive)
    sync(checkpoint.parent)
    return archive


def unused(path: Path) -> Path:
    """The path, with -2, -3, ... appended where it exists already."""
    number, free = 1, path
    while free.exists() or free.is_symlink():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free


def outside_retention(steps: Collection[int], keep_last: int, keep_every: int, needed: Collection[int]) -> list[int]:
    """Retention: the steps of checkpoints that may be removed, oldest first.

    Args:
        steps: the steps of all checkpoints.
        keep_last: how many of the newest stay; at least the newest stays.
        keep_every: checkpoints of multiples of this step stay for ever; 0: none do.
        needed: steps that stay in any case.
    """
    newest = sorted(steps, reverse=True)[: max(1, keep_last)]
    stay = {*newest, *needed, *(step for step in steps if keep_every and step % keep_every == 0)}
    return sorted(set(steps) - stay)
