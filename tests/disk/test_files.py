from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from mmae.disk.files import atomic_file, atomic_folder, check_new_file, check_new_folder, check_place, writing
from mmae.errors import InputError


def test_a_file_takes_its_name_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    with atomic_file(path) as file:
        file.write(b"abc")
        file.flush()
        (temporary,) = tmp_path.iterdir()
        assert temporary.name.startswith(".a.bin.")
        assert temporary.name.endswith(".tmp")
        file.seek(0)
        assert file.read() == b"abc"
    assert [found.name for found in tmp_path.iterdir()] == ["a.bin"]
    assert path.read_bytes() == b"abc"


def break_off(path: Path) -> None:
    with atomic_file(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["a.bin", ".hidden"])
def test_an_error_leaves_what_was_there(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for before in (None, b"old"):
        if before is not None:
            path.write_bytes(before)
        with pytest.raises(KeyboardInterrupt):
            break_off(path)
        assert [found.read_bytes() for found in tmp_path.iterdir()] == ([] if before is None else [before])


def test_writers_at_once_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    together = threading.Barrier(4)

    def write(letter: bytes) -> None:
        together.wait()
        for _ in range(20):
            with atomic_file(path) as file:
                file.write(letter * 1000)
                file.flush()
                file.write(letter * 1000)
            assert len(set(path.read_bytes())) == 1

    threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b", b"c", b"d")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(path.read_bytes()) == 2000
    assert [found.name for found in tmp_path.iterdir()] == ["a.bin"]


@pytest.mark.parametrize("has_links", [True, False])
def test_a_file_that_may_not_be_replaced(has_links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_args: object, **_others: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    if not has_links:
        monkeypatch.setattr(os, "link", no_links)
    path = tmp_path / "a.bin"
    with atomic_file(path, replace=False) as file:
        file.write(b"first")
    with pytest.raises(FileExistsError), atomic_file(path, replace=False) as file:
        file.write(b"second")
    assert [found.read_bytes() for found in tmp_path.iterdir()] == [b"first"]


def test_a_folder_takes_its_name_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.mkdir()  # an empty one is filled
    with atomic_folder(path) as folder:
        (folder / "in").mkdir()
        (folder / "in" / "file").write_text("x")
        assert not list(path.iterdir())
    assert [found.name for found in tmp_path.iterdir()] == ["a"]
    assert (path / "in" / "file").read_text() == "x"


def break_off_folder(path: Path) -> None:
    with atomic_folder(path) as folder:
        (folder / "file").write_text("half")
        raise KeyboardInterrupt


def test_an_error_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        break_off_folder(tmp_path / "a")
    assert not list(tmp_path.iterdir())
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine").write_text("x")
    with pytest.raises(OSError, match="not empty"), atomic_folder(tmp_path / "a") as folder:
        (folder / "file").write_text("whole")
    assert [found.name for found in tmp_path.rglob("*")] == ["a", "mine"]


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("what", ["atomic_file", "atomic_folder"])
def test_a_signal_that_ends_the_process_leaves_nothing(what: str, number: int, tmp_path: Path) -> None:
    program = f"""
import signal, sys
from pathlib import Path
from mmae.disk.files import {what}
with {what}(Path(sys.argv[1])):
    print("begun", flush=True)
    signal.pause()
"""
    words = [sys.executable, "-c", program, str(tmp_path / "a")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        assert len(list(tmp_path.iterdir())) == 1
        process.send_signal(number)
        _, said = process.communicate()
    assert (process.returncode, said) == (128 + number, "")
    assert not list(tmp_path.iterdir())


def test_handlers_of_others_are_left_alone(tmp_path: Path) -> None:
    def mine(*_: object) -> None:
        """Catches it."""

    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with atomic_file(tmp_path / "a"), atomic_file(tmp_path / "b"):
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    try:
        with atomic_file(tmp_path / "a"):
            signal.signal(signal.SIGTERM, mine)
        assert signal.getsignal(signal.SIGTERM) is mine
        with atomic_file(tmp_path / "a"):
            assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def failing(error: Exception) -> AbstractContextManager[Any]:
    with writing("--out x", "make room"):
        raise error


def test_an_error_of_the_disk_is_one_line() -> None:
    with pytest.raises(InputError, match=r"^--out x: cannot be written \(No space left on device\): make room$"):
        failing(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    with pytest.raises(InputError, match=r"^--out x: cannot be written \(odd\): make room$"):
        failing(OSError("odd"))
    with pytest.raises(ValueError, match="mine"):
        failing(ValueError("mine"))


def test_a_place_is_looked_at_before_the_work(tmp_path: Path) -> None:
    check_place(tmp_path / "new" / "folders" / "a", "a", "choose another")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"^a: cannot be written \(Not a directory\): choose another$"):
        check_place(tmp_path / "file" / "a", "a", "choose another")
    with pytest.raises(InputError, match="cannot be written"):
        check_place(Path("/proc/a"), "a", "choose another")
    with pytest.raises(InputError, match="File name too long"):
        check_place(tmp_path / ("a" * 250), "a", "choose another")


def test_what_is_there_is_refused_before_the_work(tmp_path: Path) -> None:
    check_new_file(tmp_path / "a")
    check_new_folder(tmp_path / "a")
    (tmp_path / "a").mkdir()
    check_new_folder(tmp_path / "a")
    with pytest.raises(InputError, match="a exists already"):
        check_new_file(tmp_path / "a")
    (tmp_path / "a" / "mine").write_text("x")
    with pytest.raises(InputError, match="a is not empty"):
        check_new_folder(tmp_path / "a")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for check in (check_new_file, check_new_folder):
        with pytest.raises(InputError, match="link"):
            check(tmp_path / "link")


def test_who_may_read_a_file(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        for name, mode in (("all", 0o666), ("mine", 0o600)):
            with atomic_file(tmp_path / name, mode=mode):
                """Nothing in it."""
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("all", "mine")] == [0o644, 0o600]
