from __future__ import annotations

import os
from pathlib import Path

import pytest

from mmae.data.shards import open_files
from mmae.data.shards.open_files import OpenShards
from mmae.data.shards.slot_decoder import Window
from mmae.errors import InputError

COUNT = 5


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for shard in range(COUNT):
        (tmp_path / str(shard)).write_bytes(bytes([shard]) * 10)
    return tmp_path


def opened(folder: Path) -> set[str]:
    """Names of the files of a folder that this process holds open."""
    links = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            links.append(Path(os.readlink(entry)))
        except FileNotFoundError:  # the listing's own
            continue
    return {link.name for link in links if link.parent == folder}


def test_reads_places_of_files(folder: Path) -> None:
    shards, window = OpenShards(lambda shard: folder / str(shard)), Window(8)
    for shard in (3, 1, 3):
        assert shards.read(shard, 2, 4, window) == 4
        assert bytes(window.view) == bytes([shard]) * 4 + bytes(4)


@pytest.mark.parametrize(("offset", "came"), [(0, 8), (3, 7), (10, 0), (99, 0)])
def test_fewer_bytes_come_where_the_file_ends(folder: Path, offset: int, came: int) -> None:
    assert OpenShards(lambda shard: folder / str(shard)).read(1, offset, 8, Window(8)) == came


def test_reads_cut_short_go_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "1").write_bytes(bytes(range(10)))
    preadv = os.preadv
    monkeypatch.setattr(os, "preadv", lambda file, buffers, offset: preadv(file, (buffers[0][:3],), offset))
    window = Window(8)
    assert OpenShards(lambda shard: folder / str(shard)).read(1, 1, 8, window) == 8
    assert bytes(window.view) == bytes(range(1, 9))
    assert OpenShards(lambda shard: folder / str(shard)).read(1, 5, 8, window) == 5


def test_open_files_are_bounded_and_the_longest_unused_goes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_files, "MAX_OPEN_SHARDS", 2)
    shards, window = OpenShards(lambda shard: folder / str(shard)), Window(1)
    for shard, expected in ((0, "0"), (1, "01"), (0, "01"), (2, "02"), (3, "23"), (2, "23"), (0, "02")):
        assert shards.read(shard, 0, 1, window) == 1
        assert window.view[0] == shard
        assert opened(folder) == set(expected)
    shards.will_need([(shard, 0, 10) for shard in range(COUNT)], opening=True)
    assert len(opened(folder)) == 2


def test_files_are_closed(folder: Path) -> None:
    shards, window = OpenShards(lambda shard: folder / str(shard)), Window(1)
    shards.read(0, 0, 1, window)
    shards.close()
    assert opened(folder) == set()
    assert shards.read(1, 0, 1, window) == 1
    del shards
    assert opened(folder) == set()


def test_a_file_that_cannot_be_opened_is_named(folder: Path) -> None:
    shards = OpenShards(lambda shard: folder / str(shard))
    with pytest.raises(InputError, match=r"/77: cannot be read \(No such file"):
        shards.read(77, 0, 1, Window(1))
    with pytest.raises(InputError, match="it is a folder, not a file"):
        OpenShards(lambda _: folder).read(0, 0, 1, Window(1))


def test_reading_ahead_opens_only_where_asked(folder: Path) -> None:
    shards = OpenShards(lambda shard: folder / str(shard))
    shards.will_need([(0, 0, 10)], opening=False)
    assert opened(folder) == set()
    shards.will_need([(0, 0, 10), (0, 2, 3), (1, 0, 10)], opening=True)
    assert opened(folder) == {"0", "1"}


@pytest.mark.process
def test_both_sides_of_a_fork_read_on(folder: Path) -> None:
    shards, window = OpenShards(lambda shard: folder / str(shard)), Window(1)
    shards.read(0, 0, 1, window)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            shards.close()
            shards.read(1, 0, 1, window)
            code = 0 if window.view[0] == 1 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    shards.read(0, 0, 1, window)
    assert window.view[0] == 0


def test_fifos_devices_and_folders_are_refused_and_not_waited_for(folder: Path) -> None:
    (folder / "0").unlink()
    os.mkfifo(folder / "0")
    (folder / "1").unlink()
    (folder / "1").symlink_to("/dev/zero")
    (folder / "2").unlink()
    (folder / "2").mkdir()
    shards, window = OpenShards(lambda shard: folder / str(shard)), Window(1)
    for shard, kind in enumerate(("FIFO", "device", "folder")):
        with pytest.raises(InputError, match=rf"/{shard}: cannot be read \(it is a {kind}, not a file\)"):
            shards.read(shard, 0, 1, window)
    assert opened(folder) == set()
