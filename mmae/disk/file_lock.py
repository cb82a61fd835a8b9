"""Locks on files between processes of a machine. The system releases them when the process ends, however it ends."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
import weakref
from pathlib import Path
from typing import Final

from mmae.disk.regular_file import check_descriptor
from mmae.errors import InputError

_POLL_S: Final = 0.05
_NO_LOCKS: Final = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


class LockedFile:
    """An open file that can be locked. A forked child does not inherit it: the file is closed there.

    Attributes:
        path: the path by which it was opened. The path may lead to another file by now.
    """

    def __init__(self, path: Path, flags: int, mode: int = 0o644) -> None:
        """Open, not locked yet.

        Args:
            mode: permissions of a file that is created, less what the umask takes away.

        Raises:
            OSError: the file cannot be opened or is not a regular file. A symbolic link is not followed.
        """
        self.path = path
        with _NO_FORK:
            self.descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, mode)
            _OPEN.add(self)
        try:
            check_descriptor(path, self.descriptor)
        except BaseException:
            self.close()
            raise

    def try_lock(self, exclusive: bool) -> bool | None:
        """Take the lock, or exchange the one that is held.

        Returns:
            False if another process holds it; None if the file system has no locks.
        """
        kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
        try:
            fcntl.flock(self.descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return None
            raise
        return True

    def lock(self, exclusive: bool) -> bool:
        """As `try_lock`, for the shard cache, which needs locks.

        Raises:
            InputError: the file system has no locks.
        """
        taken = self.try_lock(exclusive)
        if taken is None:
            raise InputError(
                f"{self.path.parent}: files cannot be locked there: choose a data.cache_dir on a local disk"
            )
        return taken

    @property
    def is_open(self) -> bool:
        return self.descriptor >= 0

    def is_named(self) -> bool:
        """Whether the path still leads to this file."""
        try:
            named = os.stat(self.path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        mine = os.fstat(self.descriptor)
        return (named.st_dev, named.st_ino) == (mine.st_dev, mine.st_ino)

    def close(self) -> None:
        """Close the file, which releases the lock."""
        with _NO_FORK:
            descriptor, self.descriptor = self.descriptor, -1
            if descriptor >= 0:
                _OPEN.discard(self)
                os.close(descriptor)

    def __del__(self) -> None:
        if getattr(self, "descriptor", -1) >= 0:
            self.close()


_OPEN: Final[weakref.WeakSet[LockedFile]] = weakref.WeakSet()
_NO_FORK: Final = threading.RLock()


def _close_in_child() -> None:
    # A lock belongs to the open file, which a fork shares: the child would keep the lock after its parent's end.
    for file in list(_OPEN):
        file.close()
    _NO_FORK.release()


os.register_at_fork(before=_NO_FORK.acquire, after_in_parent=_NO_FORK.release, after_in_child=_close_in_child)


class Watch:
    """Waits for a process that fetches a file, as long as the file grows or is replaced."""

    def __init__(self, path: Path, wait_s: float) -> None:
        self._path = path
        self._wait_s = wait_s
        self._seen: tuple[int, int] | None = None
        self._since = time.monotonic()

    def sleep(self) -> None:
        """Wait for a moment.

        Raises:
            InputError: the file has not changed for too long.
        """
        try:
            status = self._path.stat()
            seen = (status.st_ino, status.st_size)
        except OSError:
            seen = None
        now = time.monotonic()
        if seen != self._seen:
            self._seen, self._since = seen, now
        if now - self._since > self._wait_s:
            raise InputError(
                f"{self._path}: another process has been fetching it and gets no further for {self._wait_s:g} s: "
                "end that process"
            )
        time.sleep(_POLL_S)
