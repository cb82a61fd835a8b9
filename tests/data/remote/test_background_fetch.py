from __future__ import annotations

import gc
import os
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

from mmae.data.remote.background_fetch import BackgroundFetch
from mmae.disk.file_lock import LockedFile
from mmae.errors import InputError
from tests.support.waiting import wait_for


class Fetched:
    """Fetches into a folder, when it is allowed to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[int] = []
        self.files: list[LockedFile] = []
        self.go = threading.Event()
        self.go.set()

    def __call__(self, shard: int) -> LockedFile | None:
        self.asked.append(shard)
        assert self.go.wait(120)
        if shard == 13:
            raise InputError("no such shard")
        if shard == 14 and self.asked.count(14) < 3:
            return None
        (self.folder / str(shard)).touch()
        self.files.append(LockedFile(self.folder / str(shard), os.O_RDONLY))
        return self.files[-1]


def idle(ahead: BackgroundFetch) -> Callable[[], bool]:
    return lambda: ahead._thread is None


def test_in_order_and_no_more_than_most(tmp_path: Path) -> None:
    fetch = Fetched(tmp_path)
    ahead = BackgroundFetch(fetch, 3)
    ahead.want([5, 5, 2, 9, 7])
    wait_for(idle(ahead))
    assert fetch.asked == [5, 2, 9]
    for shard in (5, 2, 9, 7):
        wait_for(idle(ahead))
        file = ahead.take(shard)
        assert file is not None
        assert file.is_open
        assert ahead.take(shard) is None
        file.close()
    assert fetch.asked == [5, 2, 9, 7]
    assert ahead.take(8) is None


def test_nothing_is_wanted_or_may_be_kept(tmp_path: Path) -> None:
    fetch = Fetched(tmp_path)
    for most, shards in ((0, [1]), (3, [])):
        ahead = BackgroundFetch(fetch, most)
        ahead.want(shards)
        assert ahead._thread is None
        assert not ahead.release()
    assert fetch.asked == []


def test_failures_are_left_to_the_reader_of_the_shard(tmp_path: Path) -> None:
    fetch = Fetched(tmp_path)
    ahead = BackgroundFetch(fetch, 5)
    ahead.want([13, 1])
    wait_for(idle(ahead))
    assert fetch.asked == [13, 1]
    assert ahead.take(13) is None
    ahead.close()
    assert not fetch.files[0].is_open


def test_a_shard_that_is_not_available_now_is_tried_again(tmp_path: Path) -> None:
    fetch = Fetched(tmp_path)
    ahead = BackgroundFetch(fetch, 5, retry_s=0.01)
    ahead.want([14, 1])
    wait_for(idle(ahead))
    assert fetch.asked == [14, 1, 14, 14]
    ahead.close()
    assert [file.is_open for file in fetch.files] == [False, False]


def test_an_unavailable_shard_that_is_no_longer_wanted_is_dropped(tmp_path: Path) -> None:
    fetch = Fetched(tmp_path)
    ahead = BackgroundFetch(fetch, 5, retry_s=60)
    ahead.want([14])
    wait_for(lambda: fetch.asked == [14])
    ahead.close()
    wait_for(idle(ahead))


def test_shards_that_are_no_longer_wanted_are_released(tmp_path: Path) -> None:
    fetch = Fetched(tmp_path)
    ahead = BackgroundFetch(fetch, 2)
    ahead.want([1, 2])
    wait_for(idle(ahead))
    ahead.want([2, 3])
    wait_for(idle(ahead))
    assert fetch.asked == [1, 2, 3]
    assert [file.is_open for file in fetch.files] == [False, True, True]
    assert ahead.release()
    assert [file.is_open for file in fetch.files] == [False, True, False]
    ahead.close()


def test_wishes_change_while_a_shard_is_fetched(tmp_path: Path) -> None:
    fetch = Fetched(tmp_path)
    fetch.go.clear()
    ahead = BackgroundFetch(fetch, 2)
    ahead.want([1, 2])
    wait_for(lambda: fetch.asked == [1])
    assert ahead.take(1) is None  # the reader fetches it itself
    ahead.want([3])
    fetch.go.set()
    wait_for(idle(ahead))
    assert fetch.asked == [1, 3]
    assert [file.is_open for file in fetch.files] == [False, True]
    ahead.close()


def test_an_idle_thread_keeps_nothing_alive(tmp_path: Path) -> None:
    ahead = BackgroundFetch(Fetched(tmp_path), 2)
    ahead.want([1])
    wait_for(idle(ahead))
    gone = weakref.ref(ahead)
    del ahead
    wait_for(lambda: gc.collect() >= 0 and gone() is None)
