"""The shard files that a process holds open: a bounded number, read at given places without moving anything."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mmae.disk.regular_file import regular_descriptor
from mmae.errors import InputError

if TYPE_CHECKING:
    from mmae.data.shards.slot_decoder import Window

# Each takes a file descriptor, and 1024 of those is a common limit.
MAX_OPEN_SHARDS: Final = 512
# A request for data that is already in memory would cost more than this check of a few places.
_PROBES: Final = 4


class OpenShards:
    """Files that the reading process opens at the first read. A new file closes the least recently used one.

    After a fork both processes may read: each read has its own offset, so they share nothing but the file.

    Args:
        path: returns the path of a shard. It is called at each opening, and may raise InputError.
    """

    def __init__(self, path: Callable[[int], Path]) -> None:
        self._path = path
        self._files: OrderedDict[int, int] = OrderedDict()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close them all; they are opened again when read."""
        while self._files:
            os.close(self._files.popitem()[1])

    def read(self, shard: int, offset: int, length: int, window: Window) -> int:
        """Read into the first `length` bytes of a window. Fewer bytes are read only if the file ends before.

        Returns:
            how many bytes were read.

        Raises:
            InputError: the file cannot be opened.
            OSError: it cannot be read.
        """
        file = self._file(shard)
        # One call is almost always enough: only the end of a regular file or a signal cuts a read short.
        done = os.preadv(file, (window.view[:length],), offset)
        while 0 < done < length:
            more = os.preadv(file, (window.view[done:length],), offset + done)
            if more == 0:
                break
            done += more
        return done

    def will_need(self, spans: Sequence[tuple[int, int, int]], opening: bool) -> None:
        """Ask the system to read (shard, offset, length) ahead, without waiting; not if they seem to be in memory.

        Args:
            opening: also open shards that are not open yet.

        Raises:
            InputError, OSError: as `read`.
        """
        asked = [span for span in spans if opening or span[0] in self._files]
        probes = asked[:: -(-len(asked) // _PROBES) or 1]
        if all(_in_memory(self._file(shard), offset) for shard, offset, _ in probes):
            return
        for shard, offset, length in asked:
            os.posix_fadvise(self._file(shard), offset, length, os.POSIX_FADV_WILLNEED)

    def _file(self, shard: int) -> int:
        file = self._files.get(shard)
        if file is None:
            return self._open(shard)
        self._files.move_to_end(shard)
        return file

    def _open(self, shard: int) -> int:
        path = self._path(shard)
        try:
            file = regular_descriptor(path)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}): copy or repack the shards again") from None
        while len(self._files) >= MAX_OPEN_SHARDS:
            os.close(self._files.popitem(last=False)[1])
        self._files[shard] = file
        return file


def _in_memory(file: int, offset: int) -> bool:
    try:
        return os.preadv(file, (bytearray(1),), offset, os.RWF_NOWAIT) >= 0
    except OSError:  # The system would have to wait for the disk, or cannot answer.
        return False
