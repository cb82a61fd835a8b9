"""One training at a time in a folder, whatever became of the one before."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest

from mmae.data.locked import LockedFile
from mmae.engine.lock_holder import Holder, is_here, lives, parse_holder, this_process
from mmae.engine.run_folder import LOCK, RunFolder
from mmae.engine.run_lock import acquire, held, held_or_not
from mmae.errors import InputError
from mmae.processes import started
from tests.conftest import ROOT

SILENCE = 0.6
HOLD = """
import sys, time
from pathlib import Path
from mmae.engine.run_lock import acquire
file = acquire(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def no_flock() -> Iterator[None]:
    """A file system without locks."""
    with patch.object(LockedFile, "lock", side_effect=InputError("no locks")):
        yield


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def foreign(folder: Path, age_s: float = 0.0) -> Path:
    """The lock of a process of another machine, touched so long ago."""
    path = folder / LOCK
    path.write_text(replace(this_process(), host="node7", pid=4242, machine="another").render())
    os.utime(path, (time.time() - age_s, time.time() - age_s))
    return path


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


def test_a_living_holder_bars_the_second(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    with pytest.raises(InputError, match=rf"another training writes this run \(.*process {other.pid}, since 20\d\d-"):
        acquire(tmp_path)
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    acquire(tmp_path).close()


@pytest.mark.usefixtures("no_flock")
def test_without_locks_the_process_decides(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    with pytest.raises(InputError, match=f"process {other.pid}"):
        acquire(tmp_path)
    os.kill(other.pid, signal.SIGSTOP)
    with pytest.raises(InputError, match=f"process {other.pid}"):
        acquire(tmp_path)
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    acquire(tmp_path).close()


@pytest.mark.usefixtures("no_flock")
def test_a_number_given_anew_is_another_process(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text(replace(this_process(), started="1").render())
    acquire(tmp_path).close()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', '{"host": "a"}'])
def test_a_lock_that_names_nobody_ages_like_a_foreign_one(tmp_path: Path, text: str) -> None:
    assert parse_holder(text) is None
    path = tmp_path / LOCK
    path.write_text(text)
    os.utime(path, (1.0, 1.0))
    acquire(tmp_path, SILENCE).close()


def test_a_silent_foreign_holder_is_dead(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    foreign(tmp_path, age_s=100)
    acquire(tmp_path, silence_s=60).close()
    assert capsys.readouterr().err == ""


def test_a_fresh_foreign_holder_is_watched_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    foreign(tmp_path)
    began = time.monotonic()
    acquire(tmp_path, SILENCE).close()
    assert time.monotonic() - began >= SILENCE
    assert "held by node7, process 4242" in capsys.readouterr().err


def test_a_foreign_holder_that_beats_lives(tmp_path: Path) -> None:
    path = foreign(tmp_path)
    timer = threading.Timer(0.2, os.utime, [path])
    timer.start()
    with pytest.raises(InputError, match="node7, process 4242"):
        acquire(tmp_path, silence_s=5)
    timer.join()


def test_the_holder_beats(tmp_path: Path) -> None:
    with held(tmp_path, beat_s=0.02):
        os.utime(tmp_path / LOCK, (1.0, 1.0))
        deadline = time.monotonic() + 10
        while (tmp_path / LOCK).stat().st_mtime < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (tmp_path / LOCK).stat().st_mtime > 2


def test_who_was_taken_for_dead_notices_and_leaves_the_new_lock(tmp_path: Path) -> None:
    with held(tmp_path) as lock:
        (tmp_path / LOCK).unlink()
        foreign(tmp_path)
        with pytest.raises(InputError, match="another start has taken over"):
            lock.check()
    assert "node7" in (tmp_path / LOCK).read_text()


@pytest.mark.parametrize("flock", [True, False])
def test_of_many_starts_one_takes_over_from_a_dead_one(tmp_path: Path, flock: bool) -> None:
    for round_ in range(10):
        folder = tmp_path / str(round_)
        folder.mkdir()
        foreign(folder, age_s=100)
        taken: list[LockedFile] = []

        def start(folder: Path = folder, taken: list[LockedFile] = taken) -> None:
            try:
                taken.append(acquire(folder, silence_s=2))
            except InputError:
                return

        with patch.object(LockedFile, "lock", LockedFile.lock if flock else _no_locks):
            starts = [threading.Thread(target=start) for _ in range(6)]
            for each in starts:
                each.start()
            for each in starts:
                each.join()
        assert len(taken) == 1
        assert taken[0].is_named()
        taken[0].close()
        assert [path.name for path in folder.iterdir()] == [LOCK]


def _no_locks(self: LockedFile, exclusive: bool) -> bool:
    raise InputError("no locks")


def test_a_file_system_without_hard_links(tmp_path: Path) -> None:
    with patch("os.link", side_effect=PermissionError):
        file = acquire(tmp_path)
        with pytest.raises(InputError, match="another training"):
            acquire(tmp_path)
    file.close()
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be locked"):
        acquire(tmp_path / "file" / "run")


def test_what_must_come_first_comes_before_the_release(tmp_path: Path) -> None:
    seen = []
    with held(tmp_path) as lock:
        lock.before_release(lambda: seen.append((tmp_path / LOCK).exists()))
    assert seen == [True]


def test_without_a_lock_nothing_is_left_behind_either() -> None:
    """As a save that is being written when its training fails."""
    leave = threading.Event()
    writing = threading.Thread(target=leave.wait)
    writing.start()

    def train() -> None:
        with held_or_not(None) as lock:
            lock.before_release(leave.set)
            raise RuntimeError("failed")

    with pytest.raises(RuntimeError, match="failed"):
        train()
    writing.join(10)
    assert not writing.is_alive()


def test_a_callers_lock_is_the_callers_to_release(tmp_path: Path) -> None:
    with held(tmp_path) as lock:
        with held_or_not(lock) as same:
            assert same is lock
        assert (tmp_path / LOCK).exists()


def test_the_remains_of_a_process_do_not_live() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    deadline = time.monotonic() + 20
    while started(child.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert started(child.pid) == ""
    child.wait()
    assert started(2**22 + 1) == ""
    assert json.loads(Holder("a", 1, "2", "3", "4").render())["pid"] == 1
