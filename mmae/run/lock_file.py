"""Taking a run's lock: making its file, and taking the place of a dead one's.

A file appears under the lock's name with all its content, by a hard link; a dead one's is replaced in one rename, so
the name is never free in between.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from mmae.disk.file_lock import LockedFile
from mmae.disk.regular_file import read_regular
from mmae.errors import InputError
from mmae.run.layout import LOCK
from mmae.run.lock_owner import Holder, age_s, asked, is_here, lives, parse_holder, this_process
from mmae.terminal.printable import printable

SILENCE_S: Final = 60.0
_POLL_S: Final = 0.5
_RETRY_S: Final = 0.05
_TRIES: Final = 100

_CLAIM: Final = "-dead-"


def acquire(folder: Path, silence_s: float = SILENCE_S) -> LockedFile:
    """Take the lock of a run's folder, for one process; `lock.held` does it for a group.

    Args:
        folder: made if need be.
        silence_s: how long a holder elsewhere may be silent.

    Raises:
        InputError: another training holds it, or the folder cannot be written.
    """
    path = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for _ in range(_TRIES):
            if (file := _create(path)) is not None:
                return file
            if (file := _take_over(path, silence_s)) is not None:
                return file
            time.sleep(_RETRY_S)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be locked ({error.strerror or error}): choose a run.dir you may write"
        ) from error
    raise InputError(f"{path}: several starts want this run's folder at once: try again")


def _create(path: Path) -> LockedFile | None:
    """The lock, if nobody has it."""
    file = _written(path)
    temporary = file.path
    try:
        os.link(temporary, path)
    except OSError as error:
        # A network file system whose answer was lost tries again, and is told that the link exists: its own.
        if os.fstat(file.descriptor).st_nlink != 2:
            file.close()
            return None if isinstance(error, FileExistsError) else _create_in_place(path)
    finally:
        temporary.unlink(missing_ok=True)
    file.path = path
    return file


def _create_in_place(path: Path) -> LockedFile | None:
    """As `_create`, on a file system without hard links: for a moment the file names nobody, and that is waited for."""
    try:
        file = LockedFile(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        return None
    _fill(file)
    return file


def _take_over(path: Path, silence_s: float) -> LockedFile | None:
    """The lock, if its holder is dead; None where to look again.

    Raises:
        InputError: its holder lives.
    """
    try:
        dead = LockedFile(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        _refuse_if_held(dead, silence_s)
        with claimed(dead, silence_s) as may:
            if not may:
                return None
            file = _written(path)
            try:
                os.rename(file.path, path)
            except BaseException:
                file.path.unlink(missing_ok=True)
                file.close()
                raise
            file.path = path
        forget_claims(path)
        return file
    finally:
        dead.close()


def _refuse_if_held(file: LockedFile, silence_s: float) -> None:
    # Before it is read: what is written from then on, its holder's name too, is a sign of life.
    seen = os.fstat(file.descriptor)
    holder = parse_holder(os.pread(file.descriptor, 4096, 0).decode(errors="replace"))
    # Shared: several starts may look at once, and only the holder's own lock bars them.
    if _flock(file, exclusive=False) is False:
        raise _refusal(file.path, holder)
    if lives(holder) if holder is not None and is_here(holder) else _beats(file.path, seen, holder, silence_s):
        raise _refusal(file.path, holder)


def _written(path: Path) -> LockedFile:
    """A file of this process beside the lock."""
    file = LockedFile(path.with_name(f"{LOCK}-{secrets.token_hex(6)}"), os.O_RDWR | os.O_CREAT | os.O_EXCL)
    _fill(file)
    return file


def _fill(file: LockedFile) -> None:
    """Make a new file this process's: whole on disk, and locked where that can be."""
    try:
        os.write(file.descriptor, this_process().render().encode())
        os.fsync(file.descriptor)
        _flock(file, exclusive=True)
    except BaseException:
        file.path.unlink(missing_ok=True)
        file.close()
        raise


def _beats(path: Path, seen: os.stat_result, holder: Holder | None, silence_s: float) -> bool:
    """Whether a holder elsewhere touches its file, since it was seen so."""
    try:
        if age_s(path) > silence_s:
            return False
        print(
            printable(
                f"{path}: held by {holder or 'an unknown process'}: waiting up to {silence_s:.0f} s to see whether "
                "it lives"
            ),
            file=sys.stderr,
            flush=True,
        )
        until = time.monotonic() + silence_s
        while time.monotonic() < until:
            time.sleep(min(_POLL_S, silence_s / 10))
            now = asked(path)
            if not os.path.samestat(now, seen):
                break
            if not os.path.samestat(now, seen):
                return False
            # Its size too: a clock may be too coarse for what is written at once after the file is made.
            if (now.st_mtime_ns, now.st_size) != (seen.st_mtime_ns, seen.st_size):
                return True
    except FileNotFoundError:
        pass
    # It is silent; or it has ended, or another start has taken its place: `claimed` sees that.
    return False


def _flock(file: LockedFile, exclusive: bool) -> bool | None:
    """Whether the file system's lock could be had; None where it has none."""
    try:
        return file.lock(exclusive)
    except InputError:
        return None


def _refusal(path: Path, holder: Holder | None) -> InputError:
    who = str(holder) if holder else "a process that it does not name"
    return InputError(
        f"{path.parent}: another training writes this run ({who}): wait for it, end it, or choose another run.dir"
    )


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
