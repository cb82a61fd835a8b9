"""One training at a time in a run's folder, on any node of a shared file system.

`.lock` names its holder: host, process, machine. The holder touches the file every few seconds. It also holds the file
system's lock on it, if the file system has locks. A second start is refused while the holder lives. The holder lives if

1. a process holds the file system's lock on the file; or
2. the holder is on this machine, and its process exists; or
3. the holder is on another machine, and touches the file while this start watches it for a minute. If the file has not
   been touched for a minute already, the holder is dead.

A start takes over the lock of a dead holder. The lease of the `filelock` package cannot replace this code. Its takeover
exchanges two names (RENAME_EXCHANGE), which NFS does not offer: there a dead holder would block the run for ever. It
also takes over from a process that was stopped (SIGSTOP) and may continue later.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from mmae.disk.file_lock import LockedFile
from mmae.distributed.collectives import on_rank_0, rank
from mmae.errors import InputError
from mmae.run.locking.lock_file import SILENCE_S, acquire

BEAT_S: Final = 10.0


class RunLock:
    """The held lock on rank 0; the other ranks have one that does nothing. Create it by `held`."""

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
        """Register a call that is made on this rank before the lock is released."""
        self._before_release.append(call)

    def check(self) -> None:
        """Check that this process still holds the lock.

        Raises:
            InputError: another start found this one dead and has taken over.
        """
        if self._file is not None and (self._lost or not self._file.is_named()):
            raise InputError(
                f"{self._file.path}: another start has taken over this run's folder while this one was silent: "
                "this one ends"
            )

    def release(self) -> None:
        """Release the lock. A second call does nothing."""
        for call in self._before_release:
            call()
        self._before_release.clear()
        file, self._file = self._file, None
        self._ended.set()
        if file is None:
            return
        self._thread.join()
        # A file system that does not answer now must not fail a finished run: the next start takes over its lock.
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
                # The file system may answer again soon, and `check` looks again.
                continue


@contextmanager
def held(folder: Path, beat_s: float = BEAT_S, silence_s: float = SILENCE_S) -> Iterator[RunLock]:
    """Hold the lock of a run's folder. All ranks call it together; rank 0 holds the lock for all.

    Args:
        folder: is created if it does not exist.
        beat_s: seconds between two touches of the lock's file.
        silence_s: how long a holder on another machine may be silent.

    Raises:
        InputError: another training holds the lock; the message names it.
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
            # A start that was refused leaves no folder behind.
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def held_or_not(lock: RunLock | None) -> Iterator[RunLock]:
    """The caller's lock; without one, a lock of nothing, which still makes the `before_release` calls at the end."""
    if lock is not None:
        yield lock
        return
    of_nothing = RunLock(None, BEAT_S)
    try:
        yield of_nothing
    finally:
        of_nothing.release()
