"""One training at a time in a folder, as the training holds it."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from mmae.errors import InputError
from mmae.run.folder import RunFolder
from mmae.run.layout import LOCK
from mmae.run.locking.lock import held, held_or_not
from mmae.run.locking.lock_owner import is_here, lives, parse_holder
from tests.support.foreign_lock import foreign

pytestmark = pytest.mark.process


def test_it_names_the_holder_while_it_is_held(tmp_path: Path) -> None:
    with held(tmp_path / "run") as lock:
        holder = parse_holder((tmp_path / "run" / LOCK).read_text())
        assert holder is not None
        assert (holder.pid, is_here(holder), lives(holder)) == (os.getpid(), True, True)
        lock.check()
        assert RunFolder(tmp_path / "run").stored_config() is None
    # A start that wrote nothing leaves nothing.
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "run").mkdir()
    with held(tmp_path / "run"):
        pass
    assert list((tmp_path / "run").iterdir()) == []


def test_the_holder_touches_its_lock(tmp_path: Path) -> None:
    with held(tmp_path, beat_s=0.02):
        os.utime(tmp_path / LOCK, (1.0, 1.0))
        deadline = time.monotonic() + 120
        while (tmp_path / LOCK).stat().st_mtime < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (tmp_path / LOCK).stat().st_mtime > 2


def test_a_holder_that_was_taken_for_dead_notices_and_leaves_the_new_lock(tmp_path: Path) -> None:
    with held(tmp_path) as lock:
        (tmp_path / LOCK).unlink()
        foreign(tmp_path)
        with pytest.raises(InputError, match="another start has taken over"):
            lock.check()
    assert "node7" in (tmp_path / LOCK).read_text()


def test_registered_work_is_done_before_the_release(tmp_path: Path) -> None:
    seen = []
    with held(tmp_path) as lock:
        lock.before_release(lambda: seen.append((tmp_path / LOCK).exists()))
    assert seen == [True]


def test_without_a_lock_nothing_is_left_behind_either() -> None:
    """This happens if a training fails while a save is being written."""
    leave = threading.Event()
    writing = threading.Thread(target=leave.wait)
    writing.start()

    def train() -> None:
        with held_or_not(None) as lock:
            lock.before_release(leave.set)
            raise RuntimeError("failed")

    with pytest.raises(RuntimeError, match="failed"):
        train()
    writing.join(120)
    assert not writing.is_alive()


def test_a_callers_lock_is_the_callers_to_release(tmp_path: Path) -> None:
    with held(tmp_path) as lock:
        with held_or_not(lock) as same:
            assert same is lock
        assert (tmp_path / LOCK).exists()
