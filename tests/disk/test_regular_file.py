from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from mmae.disk.regular_file import (
    NotRegularError,
    append_regular,
    check_regular,
    open_regular,
    read_regular,
    read_regular_text,
    regular_descriptor,
)

OPENERS: tuple[Callable[[Path], object], ...] = (
    open_regular,
    regular_descriptor,
    read_regular,
    read_regular_text,
    check_regular,
)


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes("ä\n".encode())
    (tmp_path / "link").symlink_to(path)
    for name in (path, tmp_path / "link"):
        assert (read_regular(name), read_regular_text(name)) == (b"\xc3\xa4\n", "ä\n")
        with open_regular(name) as file:
            assert (file.seek(0, 2), os.get_inheritable(file.fileno())) == (3, False)
        check_regular(name)
    with pytest.raises(UnicodeDecodeError):
        read_regular_text(write(tmp_path / "b", b"\xff"))


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("opener", OPENERS)
def test_what_is_no_file_is_named_and_not_waited_for(
    opener: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the names of sockets are short
    os.mkfifo("fifo")
    for name, kind in (("fifo", "a FIFO"), (".", "a folder"), ("/dev/zero", "a device")):
        with pytest.raises(NotRegularError, match=f"it is {kind}, not a file") as raised:
            opener(Path(name))
        assert raised.value.strerror == f"it is {kind}, not a file"
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("socket")
        with pytest.raises(OSError, match="socket"):
            opener(Path("socket"))
    with pytest.raises(FileNotFoundError):
        opener(Path("none"))


def test_a_refused_file_is_closed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(NotRegularError):
            open_regular(tmp_path / "fifo")
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_is_added_to(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for content in (b"one", b"two"):
        with append_regular(path) as file:
            file.write(content)
            assert path.read_bytes().endswith(content)
    assert path.read_bytes() == b"onetwo"
    append_regular(Path("/dev/null")).close()
    with pytest.raises(OSError, match="directory"):
        append_regular(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="No such device or address"):  # nobody reads there
        append_regular(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(NotRegularError, match="it is a FIFO"):
            append_regular(tmp_path / "fifo")
    finally:
        os.close(reader)
