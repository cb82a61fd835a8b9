"""Only regular files are read: opening a FIFO would wait, and reading a device might never end."""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path
from typing import BinaryIO, Final

_KINDS: Final = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISCHR, "a device"),
)


class NotRegularError(OSError):
    """A path leads to something other than a regular file; `strerror` says to what."""


def open_regular(path: Path) -> BinaryIO:
    """A regular file, open for reading. The call does not wait for anything else.

    Raises:
        NotRegularError: the path is a folder, FIFO, socket or device.
        OSError: the file does not exist or may not be read.
    """
    return os.fdopen(regular_descriptor(path), "rb")


def regular_descriptor(path: Path) -> int:
    """As `open_regular`, but the result is a file descriptor that the caller closes."""
    return _opened(path, os.O_RDONLY)


def read_regular(path: Path) -> bytes:
    """The content of a regular file; errors as `open_regular`."""
    with open_regular(path) as file:
        return file.read()


def read_regular_text(path: Path) -> str:
    """The content of a regular file in UTF-8; errors as `open_regular`, and UnicodeDecodeError."""
    return read_regular(path).decode()


def append_regular(path: Path) -> io.FileIO:
    """A regular file, opened to append without a buffer and created if needed; errors as `open_regular`.

    Devices are accepted, for example /dev/null.
    """
    return io.FileIO(_opened(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, or_device=True), "ab")


def check_regular(path: Path) -> None:
    """Check a file that a library will open: errors as `open_regular`, but nothing is opened."""
    _check(path, os.stat(path).st_mode)


def _opened(path: Path, flags: int, or_device: bool = False) -> int:
    # Without O_NONBLOCK, opening a FIFO waits for its other end.
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY, 0o666)
    try:
        mode = os.fstat(descriptor).st_mode
        if not (or_device and stat.S_ISCHR(mode)):
            _check(path, mode)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def check_descriptor(path: Path, descriptor: int) -> None:
    """Check a file that was opened with O_NONBLOCK: errors as `open_regular`; it stays open."""
    _check(path, os.fstat(descriptor).st_mode)


def _check(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "something else")
        raise NotRegularError(errno.EINVAL, f"it is {kind}, not a file", str(path))
