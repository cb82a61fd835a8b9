"""A bounded folder of files fetched from elsewhere, shared by the processes of a machine.

Each file set has a folder `mmae-<hash>` in it. A file takes its name when it is whole; before that it is
`.<name>.<bytes>.part`. A process that fetches or removes a file holds an exclusive lock on it; processes that use it
hold shared locks. There is no other record of use, so there is nothing to clean up after a crash.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from mmae.data.remote.eviction import evict, part_name, set_folder
from mmae.disk.file_lock import LockedFile, Watch
from mmae.errors import InputError

_LOG: Final = logging.getLogger(__name__)
_POLL_S: Final = 0.05
_FULL_DISK: Final = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Wanted:
    """A file of a set: the set's hash, the file's name in it, its bytes."""

    set_hash: str
    name: str
    bytes: int


class Cache:
    """A cache in the folder `root` for files of any set, which together take at most `limit` bytes.

    Only files that are in use at the same time may exceed the limit. Unused files are removed, the least recently used
    first. Other files in `root` are neither counted nor touched.

    Args:
        limit: bytes.
        room_s: seconds to wait for others to release files before `limit` is exceeded.
        wait_s: seconds to wait for another process whose download makes no progress.

    Raises:
        InputError: `root` cannot be made.
    """

    def __init__(self, root: Path, limit: int, room_s: float = 5.0, wait_s: float = 1200.0) -> None:
        self._root = root
        self._limit = limit
        self._room_s = room_s
        self._wait_s = wait_s
        self._exceeded = False
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"data.cache_dir: {root}: cannot be made ({error.strerror})") from None

    def folder(self, set_hash: str) -> Path:
        return self._root / set_folder(set_hash)

    def hold(self, wanted: Wanted) -> LockedFile | None:
        """The file, protected from removal until it is closed; None if it is not in the cache."""
        path = self.folder(wanted.set_hash) / wanted.name
        watch = Watch(path, self._wait_s)
        while True:
            try:
                file = LockedFile(path, os.O_RDONLY)
            except FileNotFoundError:
                return None
            except OSError as error:
                raise InputError(f"{path}: cannot be read ({error.strerror}): choose another data.cache_dir") from None
            if file.lock(exclusive=False) and file.is_named():
                if os.fstat(file.descriptor).st_size == wanted.bytes:
                    with suppress(PermissionError):
                        os.utime(file.descriptor)
                    return file
                path.unlink(missing_ok=True)
            file.close()
            watch.sleep()

    def fetch(self, wanted: Wanted, fill: Callable[[IO[bytes]], None], release: Callable[[], bool]) -> LockedFile:
        """Like `hold`, but a missing file is fetched: by one process, while the others wait for it.

        Args:
            fill: completes the file, which may hold a part from an earlier attempt; unbuffered, also readable.
            release: closes a held file that this process does not need now; False if there is none.

        Raises:
            InputError: raised by `fill`; or the disk is full, or another process fetches the file without progress.
        """
        watch = Watch(self._part_path(wanted), self._wait_s)
        while True:
            if held := self.hold(wanted):
                return held
            if part := self._part(wanted):
                with closing(part):
                    self._make_room(release)
                    if held := self._filled(part, wanted, fill):
                        return held
            else:
                watch.sleep()

    def fetch_in_background(self, wanted: Wanted, fill: Callable[[IO[bytes]], None]) -> LockedFile | None:
        """Like `fetch`; None if that would exceed the limit, or another process is fetching the file."""
        if held := self.hold(wanted):
            return held
        if part := self._part(wanted):
            with closing(part):
                if evict(self._root, self._limit):
                    return self._filled(part, wanted, fill)
                if os.fstat(part.descriptor).st_size == 0:
                    part.path.unlink(missing_ok=True)
        return None

    def _part_path(self, wanted: Wanted) -> Path:
        return self.folder(wanted.set_hash) / part_name(wanted.name, wanted.bytes)

    def _part(self, wanted: Wanted) -> LockedFile | None:
        """The unfinished file, locked; None if another process holds it, or has just finished it."""
        path = self._part_path(wanted)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part = LockedFile(path, os.O_RDWR | os.O_CREAT)
        except FileNotFoundError:  # The folder was empty, and another process has removed it.
            return None
        except OSError as error:
            raise self._unwritable(error) from None
        if part.lock(exclusive=True) and part.is_named():
            if not (path.parent / wanted.name).exists():
                return part
            path.unlink(missing_ok=True)
        part.close()
        return None

    def _filled(self, part: LockedFile, wanted: Wanted, fill: Callable[[IO[bytes]], None]) -> LockedFile | None:
        path = part.path.with_name(wanted.name)
        try:
            with open(part.descriptor, "r+b", buffering=0, closefd=False) as file:
                fill(file)
                os.fsync(part.descriptor)
            os.rename(part.path, path)
        except OSError as error:
            raise self._unwritable(error) from None
        part.lock(exclusive=False)
        return self.hold(wanted)

    def _unwritable(self, error: OSError) -> InputError:
        remedy = "lower data.cache_gb or make room" if error.errno in _FULL_DISK else "choose another data.cache_dir"
        return InputError(f"{self._root}: cannot be written ({error.strerror}): {remedy}")

    def _make_room(self, release: Callable[[], bool]) -> None:
        """Remove unused files and wait for others to release theirs; warn and go on if the limit is exceeded."""
        until = time.monotonic() + (0 if self._exceeded else self._room_s)
        while not evict(self._root, self._limit):
            if release():
                continue
            if time.monotonic() >= until:
                if not self._exceeded:
                    _LOG.warning(
                        "%s: the shards in use at once take more than data.cache_gb (%.1f): raise it, or set a "
                        "smaller data.window",
                        self._root,
                        self._limit / 1e9,
                    )
                self._exceeded = True
                return
            time.sleep(_POLL_S)
