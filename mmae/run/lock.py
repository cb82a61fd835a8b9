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
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from mmae.disk.file_lock import LockedFile
from mmae.distributed.collectives import on_rank_0, rank
from mmae.errors import InputError
from mmae.run.lock_file import SILENCE_S, acquire

BEAT_S: Final = 10.0


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
