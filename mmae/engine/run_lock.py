"""One training at a time in a run's folder, on any node of a shared file system.

`.lock` names its holder: host, process, machine. The holder touches it every few seconds; where the file system has
locks, it also holds one on the file. A second start is refused while the first lives. It lives if

1. somebody holds the file system's lock on the file; else, on this machine, if
2. its process does; else, elsewhere, if
3. the file is touched while this start watches, for as long as a holder may be silent. A file that has not been
   touched for that long when it is first seen is a dead one's.

A dead holder's lock is taken over.
"""

from __future__ import annotations

import os
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from mmae.data.locked import LockedFile
from mmae.engine.lock_holder import Holder, is_here, lives, parse_holder, this_process
from mmae.engine.run_folder import LOCK
from mmae.engine.together import on_rank_0, rank
from mmae.errors import InputError

BEAT_S: Final = 10.0
SILENCE_S: Final = 60.0
_POLL_S: Final = 0.5
_TRIES: Final = 100


class RunLock:
    """A held lock: of rank 0; on other ranks it stands for that. Make it by `held`."""

    def __init__(self, file: LockedFile | None, beat_s: float) -> None:
        self._file = file
        self._beat_s = beat_s
        self._ended = threading.Event()
        self._lost = False
        self._before_release: list[Callable[[], None]] = []
        if file is not None:
            self._thread = threading.Thread(target=self._beat, name="run lock", daemon=True)
            self._thread.start()

    def before_release(self, call: Callable[[], None]) -> None:
        """Have something done on this rank before the lock is let go."""
        self._before_release.append(call)

    def check(self) -> None:
        """Make sure that the lock is still this process's.

        Raises:
            InputError: another start took this one for dead.
        """
        if self._file is not None and (self._lost or not self._file.is_named()):
            raise InputError(
                f"{self._file.path}: another start has taken over this run's folder while this one was silent: "
                "this one ends"
            )

    def release(self) -> None:
        """Let it go; twice does no harm."""
        for call in self._before_release:
            call()
        self._before_release.clear()
        file, self._file = self._file, None
        self._ended.set()
        if file is None:
            return
        self._thread.join()
        # A file system that is away for a moment must not fail a run that is done: the lock of the dead is taken over.
        with suppress(OSError):
            if file.is_named():
                file.path.unlink()
        file.close()

    def _beat(self) -> None:
        file = self._file
        while file is not None and not self._ended.wait(self._beat_s):
            try:
                if not file.is_named():
                    self._lost = True
                    return
                os.utime(file.descriptor)
            except OSError:
                # A file system that is away for a moment; `check` looks again.
                continue


@contextmanager
def held(folder: Path, beat_s: float = BEAT_S, silence_s: float = SILENCE_S) -> Iterator[RunLock]:
    """Hold a run's folder, which is made if need be. Collective: rank 0 holds it for all.

    Args:
        beat_s: how often the holder touches its file.
        silence_s: how long a holder elsewhere may be silent.

    Raises:
        InputError: another training lives there; the message names it.
    """
    file: LockedFile | None = None

    new = False

    def take() -> None:
        nonlocal file, new
        new = not folder.exists()
        file = acquire(folder, silence_s)

    on_rank_0(take)
    lock = RunLock(file if rank() == 0 else None, beat_s)
    try:
        yield lock
    finally:
        lock.release()
        if new:
            # A start that was refused leaves nothing.
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def held_or_not(lock: RunLock | None) -> Iterator[RunLock]:
    """The lock that a caller holds, or one of nothing, at whose release is done what must not be left behind."""
    if lock is not None:
        yield lock
        return
    of_nothing = RunLock(None, BEAT_S)
    try:
        yield of_nothing
    finally:
        of_nothing.release()


def acquire(folder: Path, silence_s: float = SILENCE_S) -> LockedFile:
    """Take the lock; `held` does it for a group.

    Raises:
        InputError: another training holds it, or the folder cannot be written.
    """
    path = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for _ in range(_TRIES):
            if (file := _create(path)) is not None:
                return file
            _remove_if_dead(path, silence_s)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be locked ({error.strerror or error}): choose a run.dir you may write"
        ) from error
    raise InputError(f"{path}: several starts want this run's folder at once: try again")


def _create(path: Path) -> LockedFile | None:
    """The lock, if nobody has it. Its file appears under its name with all its content."""
    temporary = path.with_name(f"{LOCK}-{secrets.token_hex(6)}")
    file = LockedFile(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        os.write(file.descriptor, this_process().render().encode())
        os.fsync(file.descriptor)
        _flock(file)
        if not _link(temporary, path):
            file.close()
            return None
    except BaseException:
        file.close()
        raise
    finally:
        temporary.unlink(missing_ok=True)
    file.path = path
    return file


def _link(temporary: Path, path: Path) -> bool:
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError:
        # A file system without hard links; or one whose answer was lost, and that has made the link.
        if os.stat(temporary).st_nlink == 2:
            return True
        if path.exists():
            return False
        os.rename(temporary, path)
    return True


def _remove_if_dead(path: Path, silence_s: float) -> None:
    """Return where the lock is free to be taken, as far as this process can see.

    Raises:
        InputError: its holder lives.
    """
    try:
        file = LockedFile(path, os.O_RDWR)
    except FileNotFoundError:
        return
    try:
        holder = parse_holder(os.pread(file.descriptor, 4096, 0).decode(errors="replace"))
        free = _flock(file)
        if free is False:
            if _being_taken_over(file):
                return
            raise _refusal(path, holder)
        if holder is not None and is_here(holder):
            if lives(holder):
                raise _refusal(path, holder)
        elif _beats(path, holder, silence_s):
            raise _refusal(path, holder)
        # Whoever else finds it dead waits for this process's lock on it, and finds another file then.
        if file.is_named():
            aside = path.with_name(f"{LOCK}-dead-{secrets.token_hex(6)}")
            os.rename(path, aside)
            if not os.path.samestat(os.stat(aside), os.fstat(file.descriptor)):
                # Without locks another start was faster: what was renamed is its own.
                _link(aside, path)
            aside.unlink(missing_ok=True)
    finally:
        file.close()


def _being_taken_over(file: LockedFile) -> bool:
    """Whether who holds the file only looks whether its holder is dead: that takes a moment."""
    for _ in range(10):
        time.sleep(0.05)
        if not file.is_named() or _flock(file) is not False:
            return True
    return False


def _beats(path: Path, holder: Holder | None, silence_s: float) -> bool:
    """Whether a holder elsewhere touches its file."""
    seen = _touched(path)
    age = _now_there(path) - seen
    if age > silence_s:
        return False
    print(
        f"{path}: held by {holder or 'an unknown process'}: waiting up to {silence_s:.0f} s to see whether it lives",
        file=sys.stderr,
        flush=True,
    )
    until = time.monotonic() + silence_s
    while time.monotonic() < until:
        time.sleep(min(_POLL_S, silence_s / 10))
        try:
            if _touched(path) != seen:
                return True
        except FileNotFoundError:
            return False
    return False


def _touched(path: Path) -> float:
    """When the file was touched, by the file system's clock; opened, so that a network file system asks its server."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.fstat(descriptor).st_mtime
    finally:
        os.close(descriptor)


def _now_there(path: Path) -> float:
    """The time by the file system's own clock: another node's may go otherwise."""
    probe = path.with_name(f"{LOCK}-{secrets.token_hex(6)}")
    probe.touch(exist_ok=False)
    try:
        return _touched(probe)
    finally:
        probe.unlink()


def _flock(file: LockedFile) -> bool | None:
    """Whether the file system's lock could be had; None where it has none."""
    try:
        return file.lock(exclusive=True)
    except InputError:
        return None


def _refusal(path: Path, holder: Holder | None) -> InputError:
    who = str(holder) if holder else "a process that it does not name"
    return InputError(
        f"{path.parent}: another training writes this run ({who}): wait for it, end it, or choose another run.dir"
    )
