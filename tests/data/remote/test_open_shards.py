from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mmae.data.remote.cached_shards import CachedShards
from mmae.data.remote.eviction import evict
from mmae.data.remote.open_shards import open_shards
from mmae.data.remote.transport import Patience
from mmae.data.shards.index import Index
from mmae.data.shards.reader import ShardReader
from mmae.errors import InputError
from tests.support.tiny_sets import DATASETS, pixels, sign, write_set
from tests.support.waiting import wait_for
from tests.support.web import PATIENT, STALLING, Web, cut, serving, stall, status

GB = 1e9
ROWS = list(range(24))
NAMES = [f"train-{number:06d}.tar" for number in range(6)]


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    write_set(tmp_path / "web", {"train": ROWS})
    with serving(tmp_path / "web") as server:
        yield server


def largest(web: Web) -> int:
    return max((web.folder / name).stat().st_size for name in NAMES)


def index_bytes(web: Web) -> int:
    return sum((web.folder / f"index.{kind}").stat().st_size for kind in ("json", "npz"))


def opened(
    location: str, folder: Path, limit: float = GB, patience: Patience = PATIENT
) -> tuple[Index, CachedShards, ShardReader]:
    index, store = open_shards(location, folder, limit / GB, patience)
    assert store is not None
    return index, store, ShardReader(index, list(DATASETS), store=store)


def check(reader: ShardReader, position: int) -> None:
    tile = reader.read(position)
    assert tile.row == ROWS[position]
    for name, info in DATASETS.items():
        assert tile.arrays[name].tobytes() == pixels(tile.row, name, info).tobytes()


def sizes(folder: Path) -> dict[Path, int] | None:
    """Bytes of the files below a folder; None where one went while they were counted."""
    try:
        return {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    except FileNotFoundError:
        return None


def usage(folder: Path) -> int:
    """Bytes at one moment, though files come and go in the background: counted twice alike."""
    counted = None
    while counted is None or counted != sizes(folder):
        counted = sizes(folder)
    return sum(counted.values())


def test_a_folder_of_this_machine_needs_no_cache(tmp_path: Path) -> None:
    write_set(tmp_path / "set", {"train": ROWS})
    index, store = open_shards(str(tmp_path / "set"), None, 1.0)
    assert store is None
    assert len(index) == len(ROWS)
    with pytest.raises(InputError, match="no such folder"):
        open_shards(str(tmp_path / "nowhere"), None, 1.0)


def test_each_shard_is_fetched_once_and_only_when_read(web: Web, tmp_path: Path) -> None:
    _, store, reader = opened(web.url + "/", tmp_path / "cache")
    assert set(web.requests) == {"index.json", "index.npz"}
    for position in (0, 3, 1, 9):
        check(reader, position)
    assert {name: len(asked) for name, asked in web.requests.items() if name.endswith("tar")} == {
        NAMES[0]: 1,
        NAMES[2]: 1,
    }
    store.close()
    _, again, reader = opened(web.url, tmp_path / "cache")
    for position in range(12):
        check(reader, position)
    assert len(web.requests["index.npz"]) == 1
    assert [len(web.requests[name]) for name in NAMES] == [1, 1, 1, 0, 0, 0]
    again.close()


@pytest.mark.parametrize("kind", ["memory", "file", pytest.param("pipe", marks=pytest.mark.process)])
def test_other_addresses(web: Web, tmp_path: Path, kind: str) -> None:
    import fsspec  # type: ignore[import-untyped]

    memory = fsspec.filesystem("memory")
    for path in web.folder.iterdir():
        memory.pipe(f"/set/{path.name}", path.read_bytes())
    location = {"memory": "memory://set", "file": f"file://{web.folder}", "pipe": f"pipe: cat {web.folder}/{{}}"}[kind]
    _, store, reader = opened(location, tmp_path / "cache")
    for position in range(len(ROWS)):
        check(reader, position)
    store.close()


@pytest.mark.long
def test_a_network_of_many_troubles(web: Web, tmp_path: Path) -> None:
    for name in ("index.json", "index.npz", *NAMES):
        web.faults[name].extend([status(503, Retry_After="0"), cut(100), stall])
    _, store, reader = opened(web.url, tmp_path / "cache", patience=STALLING)
    for position in range(len(ROWS)):
        check(reader, position)
    store.close()


def test_a_small_cache_is_enough_and_never_exceeded(web: Web, tmp_path: Path) -> None:
    limit = index_bytes(web) + 2 * largest(web)
    _, store, reader = opened(web.url, tmp_path / "cache", limit)
    assert store.at_once == 1
    for position in [*range(len(ROWS)), 0, 23, 4]:
        check(reader, position)
        assert usage(tmp_path / "cache") <= limit
    store.close()


def test_a_cache_below_one_shard_is_refused(web: Web, tmp_path: Path) -> None:
    limit = index_bytes(web) + largest(web) // 2
    with pytest.raises(InputError, match=r"data\.cache_gb: .* is too small for one shard: give .* or more"):
        opened(web.url, tmp_path / "cache", limit)
    with pytest.raises(InputError, match=r"data\.cache_dir: name a folder"):
        open_shards(web.url, None, 1.0)


def test_a_changed_set_is_not_mixed_with_its_old_cache(web: Web, tmp_path: Path) -> None:
    index, store, reader = opened(web.url, tmp_path / "cache")
    check(reader, 0)
    shutil.rmtree(web.folder)
    rows = [row + 100 for row in ROWS]
    write_set(web.folder, {"train": rows})
    other, new, changed = opened(web.url, tmp_path / "cache")
    assert other.fingerprint != index.fingerprint
    assert [changed.read(position).row for position in range(24)] == rows
    check(reader, 0)
    with pytest.raises(InputError, match=rf"{NAMES[1]}: cannot be fetched \(its content is not what the index says"):
        reader.read(4)
    store.close()
    new.close()


def change_head(web: Web, **changed: Any) -> None:
    path = web.folder / "index.json"
    sign(path, json.loads(path.read_text()) | changed)


@pytest.mark.parametrize("name", ["../train-000000.tar", "/etc/passwd", "train-000000.tar; touch x", "a/b-000000.tar"])
def test_hostile_names_stay_outside(web: Web, tmp_path: Path, name: str) -> None:
    head = json.loads((web.folder / "index.json").read_text())
    head["shards"][0]["name"] = name
    change_head(web, shards=head["shards"])
    with pytest.raises(InputError, match=r"^http://.*/index\.json: the index is damaged .a shard's name"):
        opened(web.url, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_an_invalid_index_is_refused(web: Web, tmp_path: Path) -> None:
    change_head(web, arrays={"bytes": 10, "hash": "00"})
    with pytest.raises(InputError, match=r"index\.npz: cannot be fetched \(it is longer than the 10 bytes"):
        opened(web.url, tmp_path / "cache")
    (web.folder / "index.json").write_text("<html>Please log in</html>")
    with pytest.raises(InputError, match=r"^http://.*/index\.json: not JSON"):
        opened(web.url, tmp_path / "cache")
    (web.folder / "index.json").unlink()
    with pytest.raises(InputError, match=r"^http://.*/index\.json: cannot be fetched \(HTTP 404"):
        opened(web.url, tmp_path / "cache")


def test_a_cached_index_that_was_damaged_is_fetched_again(web: Web, tmp_path: Path) -> None:
    index, store, _ = opened(web.url, tmp_path / "cache")
    store.close()
    path = index.folder / "index.npz"
    content = bytearray(path.read_bytes())
    del index
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    _, store, reader = opened(web.url, tmp_path / "cache")
    check(reader, 0)
    assert len(web.requests["index.npz"]) == 2
    store.close()


def test_a_missing_shard_is_named(web: Web, tmp_path: Path) -> None:
    _, store, reader = opened(web.url, tmp_path / "cache")
    (web.folder / NAMES[1]).unlink()
    with pytest.raises(InputError, match=rf"^http://127.0.0.1:\d+/{NAMES[1]}: cannot be fetched \(HTTP 404"):
        reader.read(4)
    check(reader, 0)
    store.close()


def test_shards_come_before_they_are_read(web: Web, tmp_path: Path) -> None:
    _, store, reader = opened(web.url, tmp_path / "cache", index_bytes(web) + 6 * largest(web))
    store.will_need([1, 2, 4, 5])
    wait_for(lambda: [len(web.requests[name]) for name in NAMES] == [0, 1, 1, 0, 1, 0])  # half of the cache
    assert store.path(1).exists()
    wait_for(lambda: len(web.requests[NAMES[5]]) == 1)
    for position in range(len(ROWS)):
        check(reader, position)
    assert [len(web.requests[name]) for name in NAMES] == [1] * 6
    store.will_need([0, 1])
    store.close()


def test_shards_that_are_no_longer_needed_make_room(web: Web, tmp_path: Path) -> None:
    """Half the cache is a window: while it is read the next one comes."""
    limit = index_bytes(web) + 4 * largest(web)
    _, store, reader = opened(web.url, tmp_path / "cache", limit)
    for window in ([0, 1], [2, 3], [4, 5], [0, 1]):
        store.will_need([*window, *((shard + 2) % 6 for shard in window)])
        for shard in window:
            check(reader, 4 * shard)
            assert usage(tmp_path / "cache") <= limit
    wait_for(lambda: (store._ahead._thread is None) and len(store._ahead._ready) == 2)
    asked = [len(web.requests[name]) for name in NAMES]
    for position in range(16):
        check(reader, position)
    assert [len(web.requests[name]) for name in NAMES] == asked
    store.close()


def left(folder: Path) -> set[str]:
    """What a cache still holds when all that is not in use is removed."""
    evict(folder, 0)
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_only_shards_in_use_are_kept(web: Web, tmp_path: Path) -> None:
    _, store, _ = opened(web.url, tmp_path / "cache")
    for shard in (0, 1, 2):
        store.path(shard)
    index = {"index.json", "index.npz"}
    assert left(tmp_path / "cache") == {*NAMES[:3], *index}
    store.will_need([2])
    assert left(tmp_path / "cache") == {NAMES[2], *index}
    store.close()
    assert left(tmp_path / "cache") == set()


def test_an_index_in_use_by_another_process_is_kept(web: Web, tmp_path: Path) -> None:
    _, store, _ = opened(web.url, tmp_path / "cache")
    copy = pickle.loads(pickle.dumps(store))  # noqa: S301
    copy.path(0)
    store.close()
    assert left(tmp_path / "cache") == {NAMES[0], "index.json", "index.npz"}
    copy.close()


@pytest.mark.process
def test_travels_and_forks_while_it_fetches(web: Web, tmp_path: Path) -> None:
    web.slow_s = 0.05
    _, store, reader = opened(web.url, tmp_path / "cache")
    store.will_need(range(6))
    check(reader, 0)
    children = []
    for first in (4, 12):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                store.will_need([5])
                for position in range(first, len(ROWS)):
                    check(reader, position)
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    copied_index, copied_store, copied = pickle.loads(pickle.dumps((reader._index, store, reader)))  # noqa: S301
    assert copied_index.fingerprint == reader._index.fingerprint
    check(copied, 23)
    copied_store.close()
    store.close()
    assert [len(web.requests[name]) for name in NAMES] == [1] * 6


READ_ALL = """
import sys
from pathlib import Path
from mmae.data.shards.reader import ShardReader
from mmae.data.remote.transport import Patience
from mmae.data.remote.open_shards import open_shards
index, store = open_shards(sys.argv[1], Path(sys.argv[2]), 1.0, Patience(give_up_s=20))
reader = ShardReader(index, list(index.datasets), store=store)
assert [reader.read(position).row for position in range(len(index))] == list(range(len(index)))
print("done")
"""


def readers(web: Web, folder: Path, count: int = 1) -> list[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", READ_ALL, web.url, str(folder)]
    return [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(count)]


@pytest.mark.process
def test_processes_of_a_machine_fetch_each_shard_once(web: Web, tmp_path: Path) -> None:
    for process in readers(web, tmp_path / "cache", 3):
        assert process.communicate(timeout=600)[0] == b"done\n"
    assert [len(web.requests[name]) for name in [*NAMES, "index.npz"]] == [1] * 7


def has_begun(folder: Path, name: str) -> bool:
    return any(path.stat().st_size for path in folder.rglob(f".{name}.*.part"))


@pytest.mark.process
def test_killed_at_any_moment_the_next_goes_on(web: Web, tmp_path: Path) -> None:
    for victim in range(3):
        web.faults[NAMES[victim]].append(stall)
        (process,) = readers(web, tmp_path / "cache")
        wait_for(partial(has_begun, tmp_path / "cache", NAMES[victim]))
        process.kill()
        process.communicate(timeout=60)
        assert list((tmp_path / "cache").rglob(f".{NAMES[victim]}.*.part"))
    (process,) = readers(web, tmp_path / "cache")
    assert process.communicate(timeout=600)[0] == b"done\n"
    assert not list((tmp_path / "cache").rglob("*.part"))
    begins = [web.requests[name] for name in NAMES]
    assert [len(asked) for asked in begins] == [2, 2, 2, 1, 1, 1]
    assert all(asked[1] > 0 for asked in begins[:3])
