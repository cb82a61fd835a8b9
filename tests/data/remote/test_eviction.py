"""What a cache may remove: files that are its own and that nobody uses, the longest unused first."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest

from mmae.data.remote.eviction import evict, part_name, set_folder
from mmae.disk.file_lock import LockedFile

SET = set_folder("0" * 32)


def write(root: Path, name: str, used: int, size: int = 100, folder: str = SET) -> Path:
    path = root / folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x" * size)
    os.utime(path, (used, used))
    return path


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    """Three of 100 bytes; the one that was unused longest stands first."""
    return [write(tmp_path, f"train-{number:06d}.tar", used) for used, number in enumerate((2, 0, 1))]


def test_nothing_goes_while_all_fits(tmp_path: Path, shards: list[Path]) -> None:
    assert evict(tmp_path, 300)
    assert all(path.exists() for path in shards)


@pytest.mark.parametrize(("limit", "gone"), [(299, 1), (200, 1), (199, 2), (0, 3)])
def test_the_longest_unused_goes_first_and_no_more_than_must(
    tmp_path: Path, shards: list[Path], limit: int, gone: int
) -> None:
    assert evict(tmp_path, limit)
    assert [path.exists() for path in shards] == [False] * gone + [True] * (3 - gone)


def test_the_folder_of_a_set_goes_with_its_last_file(tmp_path: Path, shards: list[Path]) -> None:
    evict(tmp_path, 0)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_use_stays_and_the_next_goes_instead(tmp_path: Path, shards: list[Path]) -> None:
    with closing(LockedFile(shards[0], os.O_RDONLY)) as used:
        assert used.lock(exclusive=False)
        assert evict(tmp_path, 200)
        assert [path.exists() for path in shards] == [True, False, True]
        assert not evict(tmp_path, 0)
    assert evict(tmp_path, 0)


def test_an_unfinished_file_counts_with_its_full_size(tmp_path: Path, shards: list[Path]) -> None:
    part = write(tmp_path, part_name("train-000009.tar", 1000), used=9, size=5)
    with closing(LockedFile(part, os.O_RDONLY)) as fetching:
        assert fetching.lock(exclusive=True)
        assert evict(tmp_path, 1200)
    assert [path.exists() for path in shards] == [False, True, True]


def test_files_of_others_are_neither_counted_nor_touched(tmp_path: Path) -> None:
    others = [
        write(tmp_path, "notes.txt", 0),
        write(tmp_path, "train-000000.tar", 0, folder="mine"),
        write(tmp_path, "train-000000.tar", 0, folder="mmae-short"),
    ]
    (tmp_path / "plain").write_text("x")
    (tmp_path / set_folder("1" * 32)).symlink_to(tmp_path / "mine")
    assert evict(tmp_path, 0)
    assert all(path.exists() for path in others)
