"""Only one start may replace a dead lock, and a start that dies while it does so blocks nobody."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mmae.disk.file_lock import LockedFile
from mmae.run.layout import LOCK
from mmae.run.locking.lock_file import acquire, claimed
from mmae.run.locking.lock_owner import this_process
from tests.support.foreign_lock import foreign


@pytest.fixture
def dead(tmp_path: Path) -> Iterator[LockedFile]:
    file = LockedFile(foreign(tmp_path, age_s=100), os.O_RDWR)
    yield file
    file.close()


def _others(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name != LOCK]


def test_a_claim_bars_the_next_until_it_is_given_up(tmp_path: Path, dead: LockedFile) -> None:
    with claimed(dead, 60) as first:
        with claimed(dead, 60) as second:
            assert (first, second) == (True, False)
        assert len(_others(tmp_path)) == 1
    assert _others(tmp_path) == []
    with claimed(dead, 60) as third:
        assert third


def test_a_late_start_finds_another_holder(tmp_path: Path, dead: LockedFile) -> None:
    with claimed(dead, 60) as first:
        assert first
        foreign(tmp_path).rename(tmp_path / "new")
        (tmp_path / "new").rename(dead.path)
    (tmp_path / "later").write_text(dead.path.read_text())
    (tmp_path / "later").rename(dead.path)
    with claimed(dead, 60) as late:
        assert not late


@pytest.mark.parametrize("where", ["here", "elsewhere", "nobody"])
def test_the_claim_of_a_dead_start_is_passed_over(tmp_path: Path, dead: LockedFile, where: str) -> None:
    with claimed(dead, 60):
        (claim,) = _others(tmp_path)
        if where == "here":
            claim.write_text(replace(this_process(), started="1").render())
        else:
            claim.write_text(replace(this_process(), machine="another").render() if where == "elsewhere" else "")
            with claimed(dead, 60) as waits:
                assert not waits
            os.utime(claim, (time.time() - 100, time.time() - 100))
        with claimed(dead, 60) as second:
            assert second
            with claimed(dead, 60) as third:
                assert not third
            # These are the leftovers of a start that is killed here.
            left = {path: path.read_text() for path in _others(tmp_path)}
    assert len(left) == 2
    for path, text in left.items():
        path.write_text(text.replace(this_process().started, "1"))
        os.utime(path, (time.time() - 100, time.time() - 100))
    acquire(tmp_path).close()
    assert _others(tmp_path) == []
