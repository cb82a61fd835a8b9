"""Opens a shard set: in a local folder, or at an address."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, Final

import xxhash

from mmae.addresses import is_incomplete, is_remote
from mmae.data.remote.cache import Cache, Wanted
from mmae.data.remote.cached_shards import CachedShards
from mmae.data.remote.download import download, fetch_text
from mmae.data.remote.open_remote import open_remote
from mmae.data.remote.transport import Patience
from mmae.data.shards.index import Index, open_index
from mmae.data.shards.index_json import JSON_NAME, NPZ_NAME, ArraysInfo, ShardInfo, parse_head
from mmae.errors import InputError

# A wrong address should be reported soon after the start, while its user still watches.
_FIRST_CONTACT_S: Final = 60.0
_MOST_HELD: Final = 256


def open_shards(
    location: str, cache_dir: Path | str | None, cache_gb: float, patience: Patience | None = None
) -> tuple[Index, CachedShards | None]:
    """The index of a shard set, and the store of its shards: None for a local folder.

    Args:
        location: a folder or its address: `https://`, `s3://`, `gs://` and other schemes of fsspec, or `pipe:COMMAND`:
            a command that writes a file to its output, with `{}` for the name of the file.
        cache_dir: folder for files from an address. Several sets and processes may share it.
        cache_gb: the most that they may take there, in GB (10^9 bytes).

    Raises:
        InputError: the set is missing or damaged, or the cache cannot hold one of its shards.
    """
    if not is_remote(location):
        return open_index(location), None
    if is_incomplete(location):
        raise InputError(
            f"data.shards: {location}: logins, queries and commands are not kept in files, and a file's command is not "
            "run: give the whole address on the command line (data.shards=..., or --shards), or add --trust"
        )
    if cache_dir is None:
        raise InputError("data.cache_dir: name a folder on a local disk for shards that are fetched from an address")
    patience = patience or Patience()
    remote = open_remote(location, patience)
    brief = replace(patience, give_up_s=min(patience.give_up_s, _FIRST_CONTACT_S))
    text = fetch_text(remote, JSON_NAME, brief)
    head = parse_head(text, remote.shown(JSON_NAME))
    cache = Cache(Path(cache_dir), round(cache_gb * 1e9), wait_s=2 * patience.give_up_s)
    room = _room(cache_gb, head.arrays, head.shards)
    set_hash = xxhash.xxh3_128_hexdigest(text)
    fill = partial(download, remote, NPZ_NAME, head.arrays.bytes, head.arrays.hash, patience=patience)
    files = {
        Wanted(set_hash, NPZ_NAME, head.arrays.bytes): fill,
        Wanted(set_hash, JSON_NAME, len(text)): partial(_write, text),
    }
    index = _open_fetched(cache, files)
    at_once = min(room // 2, _MOST_HELD)
    return index, CachedShards(remote, cache, tuple(files), head.shards, max(at_once, 1), at_once, patience)


def _room(cache_gb: float, arrays: ArraysInfo, shards: Sequence[ShardInfo]) -> int:
    """The number of shards that fit the cache beside the index, at least one."""
    largest = max((shard.bytes for shard in shards), default=1)
    room = (round(cache_gb * 1e9) - arrays.bytes) // max(largest, 1)
    if room < 1:
        need = (arrays.bytes + 4 * largest) / 1e9
        raise InputError(f"data.cache_gb: {cache_gb:g} is too small for one shard: give {need:.3g} or more")
    return room


def _open_fetched(cache: Cache, files: Mapping[Wanted, Callable[[IO[bytes]], None]]) -> Index:
    for last in (False, True):
        held = [cache.fetch(wanted, fill, release=lambda: False) for wanted, fill in files.items()]
        try:
            return open_index(held[0].path.parent)
        except InputError:
            if last:
                raise
            # The files were checked when they were fetched, so they have been damaged since.
            for file in held:
                file.path.unlink(missing_ok=True)
        finally:
            for file in held:
                file.close()
    raise AssertionError


def _write(content: bytes, file: IO[bytes]) -> None:
    file.truncate(0)
    file.seek(0)
    file.write(content)
