"""A folder has one holder, whatever happened to the one before, and however many starts compete."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest

from mmae.disk import file_lock
from mmae.disk.file_lock import LockedFile
from mmae.errors import InputError
from mmae.run.layout import LOCK
from mmae.run.locking import lock_file
from mmae.run.locking.lock_file import acquire
from mmae.run.locking.lock_owner import Holder, parse_holder, this_process
from tests.support.foreign_lock import foreign
from tests.support.interleaved import Processes
from tests.support.paths import ROOT

SILENCE = 0.6
HOLD = """
import sys, time
from pathlib import Path
from mmae.run.locking.lock_file import acquire
file = acquire(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def no_flock() -> Iterator[None]:
    """A file system without locks."""
    with patch.object(LockedFile, "try_lock", return_value=None):
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


@pytest.mark.process
def test_a_living_holder_bars_the_second(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    with pytest.raises(InputError, match=rf"another training writes this run \(.*process {other.pid}, since 20\d\d-"):
        acquire(tmp_path)
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    acquire(tmp_path).close()


@pytest.mark.process
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
def test_a_process_number_that_is_used_again_is_another_process(tmp_path: Path) -> None:
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
    # Touched later than now, so that it is fresh whenever it is looked at.
    foreign(tmp_path, age_s=-3600)
    began = time.monotonic()
    acquire(tmp_path, SILENCE).close()
    assert time.monotonic() - began >= SILENCE
    assert "held by node7, process 4242" in capsys.readouterr().err


def test_a_foreign_holder_that_touches_its_lock_lives(tmp_path: Path) -> None:
    path = foreign(tmp_path, age_s=1)
    # It beats while it is watched, however late that begins.
    with (
        patch.object(time, "sleep", lambda seconds: os.utime(path)),
        pytest.raises(InputError, match="node7, process 4242"),
    ):
        acquire(tmp_path, silence_s=60)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be locked"):
        acquire(tmp_path / "file" / "run")


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("kills", [0.0, 0.03])
@pytest.mark.parametrize("dead", [True, False])
def test_of_many_starts_one_holds_the_folder(tmp_path: Path, dead: bool, kills: float, links: bool) -> None:
    """Without the file system's locks, in many orders of their file operations, some killed on the way."""
    for seed in range(100):
        folder = tmp_path / str(seed)
        folder.mkdir()
        if dead:
            foreign(folder, age_s=100)
        taken = _starts(folder, seed, kills, links)
        assert len(taken) == 1 or (kills and not taken), f"seed {seed}"
        for file in taken:
            assert file.is_named()
            file.close()
        if not kills:
            assert [path.name for path in folder.iterdir()] == [LOCK]


def _starts(folder: Path, seed: int, kills: float, links: bool) -> list[LockedFile]:
    """The locks that the surviving ones of four starts hold at the end."""
    processes = Processes(seed, kills)
    taken: dict[int, LockedFile] = {}

    def start(number: int) -> None:
        with suppress(InputError):
            taken[number] = acquire(folder, silence_s=60)

    def this() -> Holder:
        return replace(this_process(), pid=1 + (processes.current() or 0), machine="here")

    def lives(holder: Holder) -> bool:
        return holder.pid - 1 not in processes.killed

    with ExitStack() as stack:
        if not links:
            stack.enter_context(patch("os.link", side_effect=PermissionError))
        stack.enter_context(patch.object(LockedFile, "try_lock", return_value=None))
        # Held while a file is opened: processes do not share it.
        stack.enter_context(patch.object(file_lock, "_NO_FORK", nullcontext()))
        stack.enter_context(patch.object(lock_file, "this_process", this))
        stack.enter_context(patch.object(lock_file, "is_here", lambda holder: holder.machine == "here"))
        stack.enter_context(patch.object(lock_file, "lives", lives))
        processes.run(start, 4)
    return [file for number, file in taken.items() if number not in processes.killed]


def test_of_many_starts_under_locks_one_takes_over_from_a_dead_one(tmp_path: Path) -> None:
    foreign(tmp_path, age_s=100)
    taken: list[LockedFile] = []

    def start() -> None:
        with suppress(InputError):
            taken.append(acquire(tmp_path, silence_s=60))

    starts = [threading.Thread(target=start) for _ in range(6)]
    for each in starts:
        each.start()
    for each in starts:
        each.join()
    assert len(taken) == 1
    assert taken[0].is_named()
    taken[0].close()
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def test_a_file_system_without_hard_links(tmp_path: Path) -> None:
    with patch("os.link", side_effect=PermissionError):
        file = acquire(tmp_path)
        with pytest.raises(InputError, match="another training"):
            acquire(tmp_path)
    file.close()
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]
