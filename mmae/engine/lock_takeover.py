"""Of several starts that find a lock dead, one may put its own in that one's place, also where files have no locks.

Who wants to makes a file of a name that only this dead lock has: the claim. It is given up when the dead lock is gone,
so a start that comes late either finds the claim, or can make it and finds another lock where the dead one was. The
claim of a start that died is passed over by one more with the next number.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from mmae.data.locked import LockedFile
from mmae.engine.file_time import age_s
from mmae.engine.lock_holder import is_here, lives, parse_holder, this_process
from mmae.regular_file import read_regular

_CLAIM: Final = "-dead-"


@contextmanager
def claimed(dead: LockedFile, silence_s: float) -> Iterator[bool]:
    """Whether this start alone may take the place of a lock that it has found dead, which still is in its place.

    Args:
        silence_s: how old the claim of a start elsewhere is when that start is dead.
    """
    claim = _claim(dead, silence_s)
    if claim is None:
        yield False
        return
    try:
        yield dead.is_named()
    finally:
        claim.unlink(missing_ok=True)


def forget_claims(lock: Path) -> None:
    """Remove what starts that died have left: for who has just taken a dead lock's place, claims of locks gone."""
    for claim in lock.parent.glob(f"{lock.name}{_CLAIM}*"):
        # Litter must not bar a start.
        with suppress(OSError):
            claim.unlink()


def _claim(dead: LockedFile, silence_s: float) -> Path | None:
    content = hashlib.sha256(os.pread(dead.descriptor, 4096, 0)).hexdigest()[:12]
    name = f"{dead.path.name}{_CLAIM}{os.fstat(dead.descriptor).st_ino:x}-{content}"
    number = 0
    while True:
        path = dead.path.with_name(f"{name}-{number}")
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            if _claimant_lives(path, silence_s):
                return None
            number += 1
            continue
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(this_process().render())
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path


def _claimant_lives(path: Path, silence_s: float) -> bool:
    """Whether to wait for who made a claim; it has that for a moment, so nobody touches it."""
    try:
        holder = parse_holder(read_regular(path).decode(errors="replace"))
        if holder is not None and is_here(holder):
            return lives(holder)
        return age_s(path) <= silence_s
    except FileNotFoundError:
        return True
