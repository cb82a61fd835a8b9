"""Taking a run's lock: creating its file, and removing the file of a holder that is dead.

The file appears under its name with its whole content, by a hard link. Stale-lock takeover: exactly one start removes
a stale lock, with or without locks of the file system; then all starts compete to create the new one.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Final

from mmae.disk.file_lock import LockedFile
from mmae.disk.regular_file import read_regular
from mmae.errors import InputError
from mmae.run.layout import LOCK
from mmae.run.locking.lock_owner import Holder, age_s, is_here, lives, opened_stat, parse_holder, this_process
from mmae.terminal.printable import printable

SILENCE_S: Final = 60.0
_POLL_S: Final = 0.5
_RETRY_S: Final = 0.05
_TRIES: Final = 100

_CLAIM: Final = "-dead-"


def acquire(folder: Path, silence_s: float = SILENCE_S) -> LockedFile:
    """Take the lock of a run's folder, for one process; `lock.held` does it for a group.

    Args:
        folder: is created if it does not exist.
        silence_s: how long a holder on another machine may be silent.

    Raises:
        InputError: another training holds the lock, or the folder cannot be written.
    """
    path = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for _ in range(_TRIES):
            if (file := _create(path)) is not None:
                _remove_claims(path)
                return file
            _remove_if_dead(path, silence_s)
            time.sleep(_RETRY_S)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be locked ({error.strerror or error}): choose a run.dir you may write"
        ) from error
    raise InputError(f"{path}: several starts want this run's folder at once: try again")


def _create(path: Path) -> LockedFile | None:
    """The lock; None if another process has it."""
    file = LockedFile(path.with_name(f"{LOCK}-{secrets.token_hex(6)}"), os.O_RDWR | os.O_CREAT | os.O_EXCL)
    _fill(file)
    temporary = file.path
    try:
        os.link(temporary, path)
    except OSError as error:
        # A network file system that lost the answer asks again, and hears that the link exists: it is our own.
        if os.fstat(file.descriptor).st_nlink != 2:
            file.close()
            return None if isinstance(error, FileExistsError) else _create_in_place(path)
    finally:
        temporary.unlink(missing_ok=True)
    file.path = path
    return file


def _create_in_place(path: Path) -> LockedFile | None:
    """As `_create`, on a file system without hard links: for a moment the file is empty, and other starts wait."""
    try:
        file = LockedFile(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        return None
    _fill(file)
    return file


def _fill(file: LockedFile) -> None:
    """Write this process into a new file, sync it, and lock it where the file system has locks."""
    try:
        os.write(file.descriptor, this_process().render().encode())
        os.fsync(file.descriptor)
        file.try_lock(exclusive=True)
    except BaseException:
        file.path.unlink(missing_ok=True)
        file.close()
        raise


def _remove_if_dead(path: Path, silence_s: float) -> None:
    """Remove the lock if its holder is dead, unless another start is removing it.

    Raises:
        InputError: its holder lives.
    """
    try:
        lock = LockedFile(path, os.O_RDWR)
    except FileNotFoundError:
        return
    try:
        _refuse_if_held(lock, silence_s)
        with claimed(lock, silence_s) as may_remove:
            if may_remove:
                path.unlink()
    finally:
        lock.close()


def _refuse_if_held(file: LockedFile, silence_s: float) -> None:
    # The status comes before the content: whatever is written later, the holder's name too, is a sign of life.
    seen = os.fstat(file.descriptor)
    holder = parse_holder(os.pread(file.descriptor, 4096, 0).decode(errors="replace"))
    # Shared: several starts may look at once, and only the holder's own lock is in their way.
    if (
        file.try_lock(exclusive=False) is False
        or (lives(holder) if holder is not None and is_here(holder) else _beats(file.path, seen, holder, silence_s))
    ):  # fmt: skip
        name = str(holder) if holder else "a process that it does not name"
        raise InputError(
            f"{file.path.parent}: another training writes this run ({name}): wait for it, end it, or choose another "
            "run.dir"
        )


def _beats(path: Path, seen: os.stat_result, holder: Holder | None, silence_s: float) -> bool:
    """Whether a holder on another machine touches its file after it was `seen`."""
    # If the file is gone, its holder has ended or another start has taken its place: `claimed` notices both.
    with suppress(FileNotFoundError):
        if age_s(path) > silence_s:
            return False
        said = f"{path}: held by {holder or 'an unknown process'}: waiting up to {silence_s:.0f} s to see if it lives"
        print(printable(said), file=sys.stderr, flush=True)
        until = time.monotonic() + silence_s
        while time.monotonic() < until:
            time.sleep(min(_POLL_S, silence_s / 10))
            now = opened_stat(path)
            if not os.path.samestat(now, seen):
                return False
            # The size too: a clock may be too coarse to show what is written right after the file is created.
            if (now.st_mtime_ns, now.st_size) != (seen.st_mtime_ns, seen.st_size):
                return True
    return False


@contextmanager
def claimed(dead: LockedFile, silence_s: float) -> Iterator[bool]:
    """Whether this start, and no other, may remove a lock that it found dead.

    Args:
        dead: the lock's file, held open: its inode number cannot belong to another file meanwhile.
        silence_s: from this age on, the claim of a start on another machine counts as dead.
    """
    claim = _claim(dead, silence_s)
    if claim is None:
        yield False
        return
    try:
        yield dead.is_named()
    finally:
        claim.unlink(missing_ok=True)


def _claim(dead: LockedFile, silence_s: float) -> Path | None:
    """A file that only one living start can create; None if another one has."""
    content = hashlib.sha256(os.pread(dead.descriptor, 4096, 0)).hexdigest()[:12]
    name = f"{dead.path.name}{_CLAIM}{os.fstat(dead.descriptor).st_ino:x}-{content}"
    for number in count():
        path = dead.path.with_name(f"{name}-{number}")
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            if _claimant_lives(path, silence_s):
                return None
            continue
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(this_process().render())
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path
    return None


def _claimant_lives(path: Path, silence_s: float) -> bool:
    """Whether to wait for the start that created a claim. Claims are short, so nobody touches them."""
    try:
        holder = parse_holder(read_regular(path).decode(errors="replace"))
        if holder is not None and is_here(holder):
            return lives(holder)
        return age_s(path) <= silence_s
    except FileNotFoundError:
        return True


def _remove_claims(lock: Path) -> None:
    """Remove the claims that killed starts left. Only the new holder calls it: nobody claims a living lock."""
    for claim in lock.parent.glob(f"{lock.name}{_CLAIM}*"):
        # Left-over files must not stop a start.
        with suppress(OSError):
            claim.unlink()
