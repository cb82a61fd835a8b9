from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import IO

import pytest

from mmae.data.remote.cache import Wanted
from mmae.errors import InputError
from tests.support.small_cache import SET, cache, fetch, filler, keep, names, never, shard


def test_fetched_once_then_there(tmp_path: Path) -> None:
    kept = cache(tmp_path)
    assert kept.hold(shard(1)) is None
    first = fetch(kept, 1)
    assert first.path.read_bytes() == b"\1" * 100
    second = kept.fetch(shard(1), never, keep)
    assert second.path == first.path
    first.close()
    first.close()
    second.close()
    assert names(tmp_path) == [f"mmae-{SET}/train-000001.tar"]


def test_finished_by_another_while_one_looked_away(tmp_path: Path) -> None:
    kept = cache(tmp_path)
    fetch(kept, 1).close()
    assert kept._part(shard(1)) is None
    assert names(tmp_path) == [f"mmae-{SET}/train-000001.tar"]


def test_a_failed_attempt_is_continued(tmp_path: Path) -> None:
    kept = cache(tmp_path)

    def half(file: IO[bytes]) -> None:
        file.write(b"x" * 50)
        raise InputError("the network is down")

    with pytest.raises(InputError, match="the network is down"):
        kept.fetch(shard(1), half, keep)
    assert kept.hold(shard(1)) is None

    def rest(file: IO[bytes]) -> None:
        assert file.read() == b"x" * 50
        file.write(b"y" * 50)

    kept.fetch(shard(1), rest, keep).close()
    assert names(tmp_path) == [f"mmae-{SET}/train-000001.tar"]


def test_a_cut_file_is_fetched_again(tmp_path: Path) -> None:
    kept = cache(tmp_path)
    held = fetch(kept, 1)
    held.close()
    os.truncate(held.path, 99)
    assert kept.hold(shard(1)) is None
    fetch(kept, 1).close()
    assert held.path.stat().st_size == 100


def test_the_longest_unused_goes_first(tmp_path: Path) -> None:
    kept = cache(tmp_path, 300)
    for number in range(3):
        file = fetch(kept, number)
        os.utime(file.descriptor, (number, number))
        file.close()
    used = kept.hold(shard(0))  # used again
    assert used is not None
    used.close()
    fetch(kept, 3).close()
    assert names(tmp_path) == [f"mmae-{SET}/train-{number:06d}.tar" for number in (0, 2, 3)]


def test_held_files_stay(tmp_path: Path) -> None:
    kept = cache(tmp_path, 300)
    held = fetch(kept, 0)
    for number in range(1, 10):
        fetch(kept, number).close()
        assert sum(path.stat().st_size for path in held.path.parent.iterdir()) <= 300
    assert held.path.read_bytes() == b"\0" * 100
    held.close()


def test_more_in_use_than_fits_goes_on_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = cache(tmp_path, 250)
    files = [fetch(kept, number) for number in range(4)]
    assert all(file.path.exists() for file in files)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "raise it, or set a smaller data.window" in caplog.text
    for file in files:
        file.close()
    fetch(kept, 9).close()
    assert len(names(tmp_path)) == 2


def test_own_files_are_released_first(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = cache(tmp_path, 250)
    files = [fetch(kept, 0), fetch(kept, 1)]

    def release() -> bool:
        if files:
            files.pop(0).close()
            return True
        return False

    kept.fetch(shard(2), filler(b"z" * 100), release).close()
    assert names(tmp_path) == [f"mmae-{SET}/train-{number:06d}.tar" for number in (1, 2)]
    assert len(files) == 1
    assert not caplog.records


@pytest.mark.process
def test_waits_for_others_to_release(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = cache(tmp_path, 150, room_s=20)
    held = fetch(kept, 0)
    timer = threading.Timer(0.3, held.close)
    timer.start()
    fetch(kept, 1).close()
    timer.join()
    assert names(tmp_path) == [f"mmae-{SET}/train-000001.tar"]
    assert not caplog.records


def test_ahead_never_exceeds_nor_waits(tmp_path: Path) -> None:
    kept = cache(tmp_path, 250)
    held = [fetch(kept, 0), fetch(kept, 1)]
    assert kept.fetch_in_background(shard(2), never) is None
    assert names(tmp_path) == [f"mmae-{SET}/train-{number:06d}.tar" for number in (0, 1)]
    held.pop().close()
    ahead = kept.fetch_in_background(shard(2), filler(b"z" * 100))
    assert ahead is not None
    again = kept.fetch_in_background(shard(2), never)
    assert again is not None
    for file in (*held, ahead, again):
        file.close()


def test_the_users_files_are_not_touched_nor_counted(tmp_path: Path) -> None:
    folder = tmp_path / f"mmae-{SET}"
    mine = [
        tmp_path / "big.bin",
        tmp_path / "train-000000.tar",
        tmp_path / "mmae-x" / "train-000000.tar",
        folder / "notes.txt",
        folder / "train.tar",
        folder / "deeper" / "train-000000.tar",
    ]
    for path in mine:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 5000)
    (tmp_path / f"mmae-{'1' * 32}").symlink_to(tmp_path / "mmae-x")
    kept = cache(tmp_path, 150)
    for number in range(3):
        fetch(kept, number).close()
    assert all(path.exists() for path in mine)


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / f"mmae-{SET}"
    folder.mkdir(parents=True)
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    (folder / ".train-000000.tar.100.part").symlink_to(victim)
    (folder / "train-000001.tar").symlink_to(victim)
    kept = cache(tmp_path / "cache")
    for number in range(2):
        with pytest.raises(InputError, match=r"choose another data\.cache_dir"):
            fetch(kept, number)
    assert victim.read_bytes() == b"mine"


def test_other_sets_make_room_and_their_folders_go(tmp_path: Path) -> None:
    kept = cache(tmp_path, 240)
    old = "f" * 32
    for wanted in (shard(0, 100, old), Wanted(old, "index.npz", 50), Wanted(old, "index.json", 50)):
        kept.fetch(wanted, filler(b"x" * wanted.bytes), keep).close()
    with pytest.raises(InputError, match="stopped"):
        kept.fetch(shard(7, 40, old), lambda file: (_ for _ in ()).throw(InputError("stopped")), keep)
    for path in kept.folder(old).iterdir():
        # A file system's clock may be too coarse to tell what was used later.
        os.utime(path, (1, 1))
    # Only together do all the others make room enough, in whatever order they go.
    fetch(kept, 0, 110).close()
    fetch(kept, 1, 110).close()
    assert names(tmp_path) == [f"mmae-{SET}/train-{number:06d}.tar" for number in (0, 1)]
    assert [path.name for path in tmp_path.iterdir()] == [f"mmae-{SET}"]


def test_unusable_folders(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"data\.cache_dir: .* cannot be made"):
        cache(tmp_path / "file" / "deeper")
    kept = cache(tmp_path / "cache")
    (tmp_path / "cache").rmdir()
    fetch(kept, 0).close()
    assert len(names(tmp_path / "cache")) == 1


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    def full(file: IO[bytes]) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match=r"No space left on device.: lower data\.cache_gb or make room"):
        cache(tmp_path).fetch(shard(0), full, keep)


def test_no_locks_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*args: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", unsupported)
    with pytest.raises(InputError, match="files cannot be locked there"):
        fetch(cache(tmp_path), 0)


def test_a_fifo_in_the_cache_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    kept = cache(tmp_path)
    fetch(kept, 1).close()
    (held,) = (path for path in tmp_path.rglob("*") if path.is_file())
    held.unlink()
    os.mkfifo(held)
    with pytest.raises(InputError, match=r"\(it is a FIFO, not a file\): choose another data\.cache_dir"):
        kept.hold(shard(1))
