"""Shards of a remote set, fetched into a cache on this machine when they are needed."""

from __future__ import annotations

import os
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from mmae.data.remote.background_fetch import BackgroundFetch
from mmae.data.remote.cache import Cache, Wanted
from mmae.data.remote.download import download

if TYPE_CHECKING:
    from mmae.data.remote.transport import Patience, Remote
    from mmae.data.shards.index_json import ShardInfo
    from mmae.disk.file_lock import LockedFile


class CachedShards:
    """The shards of a remote set. Each is fetched whole at its first use, checked, and kept within the cache's limit.

    For one reading thread. It may be pickled and used after a fork: the other process then holds its own files.

    Args:
        remote: where the shards come from.
        cache: where they are stored on this machine.
        index: the files of the set's index, which are in the cache already.
        shards: as in the index.
        at_once: number of shards that this process protects from removal: those that were asked for last.
        ahead: shards fetched before they are asked for.
        patience: with the network.
    """

    def __init__(
        self,
        remote: Remote,
        cache: Cache,
        index: Sequence[Wanted],
        shards: Sequence[ShardInfo],
        at_once: int,
        ahead: int,
        patience: Patience,
    ) -> None:
        self.at_once = at_once
        self._remote = remote
        self._set_hash = index[0].set_hash
        self._cache = cache
        self._index = tuple(index)
        self._infos = tuple(shards)
        self._most_ahead = ahead
        self._patience = patience
        self._begin()
        self._hold_index()

    def _begin(self) -> None:
        self._held: OrderedDict[int, LockedFile] = OrderedDict()
        self._ahead = BackgroundFetch(self._fetch_in_background, self._most_ahead)
        self._index_held: list[LockedFile] = []
        _STORES.add(self)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key not in ("_held", "_ahead", "_index_held")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._begin()

    def _hold_index(self) -> None:
        # While this object is in use, other processes must not evict the index.
        if not self._index_held:
            self._index_held = [held for wanted in self._index if (held := self._cache.hold(wanted))]

    def path(self, shard: int) -> Path:
        """A shard's file on this machine, whole.

        It stays there until `at_once` others have been asked for, or `will_need` leaves it out.

        Raises:
            InputError: the shard cannot be fetched.
        """
        held = self._held.get(shard)
        if held is None:
            self._hold_index()
            held = self._ahead.take(shard) or self._fetch(shard)
            self._held[shard] = held
        self._held.move_to_end(shard)
        while len(self._held) > self.at_once:
            self._release_oldest()
        return held.path

    def will_need(self, shards: Sequence[int]) -> None:
        """Fetch these shards in the background while the cache has room, the soonest needed first; others may go.

        This replaces the shards of the call before.
        """
        for shard in self._held.keys() - set(shards):
            self._held.pop(shard).close()
        self._ahead.want([shard for shard in shards if shard not in self._held])

    def close(self) -> None:
        """Release all files. A shard that is asked for later is held again."""
        self._ahead.close()
        while self._held:
            self._release_oldest()
        while self._index_held:
            self._index_held.pop().close()

    def _fetch(self, shard: int) -> LockedFile:
        return self._cache.fetch(self._wanted(shard), self._filler(shard), self._release)

    def _fetch_in_background(self, shard: int) -> LockedFile | None:
        return self._cache.fetch_in_background(self._wanted(shard), self._filler(shard))

    def _wanted(self, shard: int) -> Wanted:
        info = self._infos[shard]
        return Wanted(self._set_hash, info.name, info.bytes)

    def _filler(self, shard: int) -> Callable[[IO[bytes]], None]:
        info = self._infos[shard]
        return partial(download, self._remote, info.name, info.bytes, info.hash, patience=self._patience)

    def _release(self) -> bool:
        if self._held:
            self._release_oldest()
            return True
        return self._ahead.release()

    def _release_oldest(self) -> None:
        self._held.popitem(last=False)[1].close()


_STORES: Final[weakref.WeakSet[CachedShards]] = weakref.WeakSet()


def _begin_in_child() -> None:
    for store in list(_STORES):
        store._begin()


os.register_at_fork(after_in_child=_begin_in_child)
