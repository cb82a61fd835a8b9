"""Files fetched in the background before they are asked for."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mmae.errors import InputError

if TYPE_CHECKING:
    from mmae.disk.file_lock import LockedFile


class BackgroundFetch:
    """A thread that fetches shards in the order of their use, and keeps them until they are taken.

    The thread ends when it has no work, and starts again with new work.

    Args:
        fetch: returns a shard's file, held in the cache; None if that is not possible now. Errors are ignored here:
            the reader of the shard will meet them again.
        most: shards kept at a time.
        retry_s: seconds until a shard that could not be fetched is tried again.
    """

    def __init__(self, fetch: Callable[[int], LockedFile | None], most: int, retry_s: float = 1.0) -> None:
        self._fetch = fetch
        self._most = most
        self._retry_s = retry_s
        self._changed = threading.Condition()
        self._wanted: deque[int] = deque()
        self._ready: OrderedDict[int, LockedFile] = OrderedDict()
        self._thread: threading.Thread | None = None

    def want(self, shards: Sequence[int]) -> None:
        """Fetch these shards, the soonest needed first, instead of those of the call before. Returns at once."""
        wanted = dict.fromkeys(shards)
        with self._changed:
            for shard in self._ready.keys() - wanted:
                self._ready.pop(shard).close()
            self._wanted = deque(shard for shard in wanted if shard not in self._ready)
            self._wake()

    def take(self, shard: int) -> LockedFile | None:
        """A shard's file if it is ready; the caller must close it."""
        with self._changed:
            if shard in self._wanted:
                self._wanted.remove(shard)
            file = self._ready.pop(shard, None)
            self._wake()
            return file

    def release(self) -> bool:
        """Close the file that is needed last, and do not fetch it again; False if there is none."""
        with self._changed:
            if self._ready:
                self._ready.popitem()[1].close()
                return True
            return False

    def close(self) -> None:
        """Stop fetching, and close all files."""
        self.want(())

    def _has_work(self) -> bool:
        return bool(self._wanted) and len(self._ready) < self._most

    def _wake(self) -> None:
        if self._thread is None and self._has_work():
            self._thread = threading.Thread(target=self._run, name="shards ahead", daemon=True)
            self._thread.start()
        self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._has_work():
                    self._thread = None
                    return
                shard = self._wanted[0]
            if not self._fetched(shard):
                with self._changed:
                    # The other shards come first, then this one again.
                    if self._wanted and self._wanted[0] == shard:
                        self._wanted.rotate(-1)
                        self._changed.wait(self._retry_s)

    def _fetched(self, shard: int) -> bool:
        """Fetch a shard; False if it must be tried again."""
        file, failed = None, False
        try:
            file = self._fetch(shard)
        except InputError:
            failed = True
        with self._changed:
            # The list of wanted shards may have changed in the meantime.
            wanted = shard in self._wanted
            if wanted and (file or failed):
                self._wanted.remove(shard)
            if file is not None:
                if wanted:
                    self._ready[shard] = file
                else:
                    file.close()
            return file is not None or failed or not wanted
