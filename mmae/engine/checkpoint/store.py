"""The folder that holds a run's checkpoints: names, the commit, and what is removed or set aside.

    global_stepN             a whole checkpoint
    latest                   the newest one's name, for DeepSpeed's own programs
    damaged-global_stepN     was found damaged at a start
    .saving-global_stepN     being written
    .replaced-global_stepN   the former one of a step that is saved again
    .deleting-global_stepN   being removed

Only the owner of the run's lock calls what changes it.
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
from mmae.run.layout import CHECKPOINT_GLOB, LATEST

DAMAGED: Final = "damaged-"
SAVING: Final = ".saving-"
_REPLACED: Final = ".replaced-"
_DELETING: Final = ".deleting-"
_LEFTOVERS: Final = (SAVING, _DELETING, ".universal-")


def pointed_at(checkpoints: Path) -> str:
    """The name that `latest` holds, be there such a checkpoint or not; empty where there is no such file."""
    try:
        return read_regular(checkpoints / LATEST).decode(errors="replace").strip()
    except OSError:
        return ""


def damaged_ones(checkpoints: Path) -> list[Path]:
    """Checkpoints that were set aside as damaged."""
    return sorted(checkpoints.glob(f"{DAMAGED}{CHECKPOINT_GLOB}"))


def size_of(folder: Path) -> int:
    """Bytes of the files in a folder and below it."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def commit(temporary: Path, final: Path, files: Files) -> None:
    """Give a checkpoint whose files are all on the disk its manifest and its final name.

    At any moment of it, `recover` finds the former checkpoints and this one, or the former ones.

    Raises:
        OSError: it could not be done.
    """
    for name, entry in files.items():
        # Opened, because a network file system's client asks its server then.
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
    # Nothing here goes by the pointer: without it the checkpoint is as good.
    with suppress(OSError):
        write_whole(final.parent / LATEST, final.name)
    shutil.rmtree(former, ignore_errors=True)


def recover(checkpoints: Path) -> None:
    """Finish or undo what a killed process left: a step's former checkpoint gets its name back, halves are removed."""
    for former in sorted(checkpoints.glob(f"{_REPLACED}*")):
        final = former.with_name(former.name.removeprefix(_REPLACED))
        if final.exists():
            shutil.rmtree(former, ignore_errors=True)
        else:
            os.rename(former, final)
            sync(checkpoints)
    for start in _LEFTOVERS:
        for leftover in checkpoints.glob(f"{start}*"):
            shutil.rmtree(leftover, ignore_errors=True)


def remove(checkpoint: Path) -> None:
    """Remove a checkpoint; killed in the middle of it, what is left has another name.

    Raises:
        OSError: it could not be renamed. What could not be removed then, `recover` tries again.
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
    aside = unused(checkpoint.with_name(f"{DAMAGED}{checkpoint.name}"))
    os.rename(checkpoint, aside)
    sync(checkpoint.parent)
    return aside


def unused(path: Path) -> Path:
    """The path, or with -2, -3, ... behind it where there is something already."""
    number, free = 1, path
    while free.exists() or free.is_symlink():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free


def outside_retention(steps: Collection[int], keep_last: int, keep_every: int, needed: Collection[int]) -> list[int]:
    """Steps whose checkpoints may go, oldest first.

    Args:
        steps: of all checkpoints.
        keep_last: so many of the newest stay; the newest always does.
        keep_every: multiples of it stay for ever; 0 keeps none for that.
        needed: steps that stay whatever the rules say.
    """
    newest = sorted(steps, reverse=True)[: max(1, keep_last)]
    stay = {*newest, *needed, *(step for step in steps if keep_every and step % keep_every == 0)}
    return sorted(set(steps) - stay)
