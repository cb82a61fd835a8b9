"""Atomic files: a name leads to a whole file or to none."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, Final

from mmae.errors import InputError

TEMPORARY: Final = ".tmp"

_ENDING: Final = (signal.SIGTERM, signal.SIGHUP)
"""Signals that end a process without any clean-up, unless it catches them."""


@contextmanager
def atomic_file(path: Path, replace: bool = True, mode: int = 0o666) -> Iterator[IO[bytes]]:
    """A binary file (also readable) that gets the name `path` when the block ends without an error.

    Until then it has a temporary name beside it, `.<name>.<this process and a random part>.tmp`, and an error removes
    it. When several processes write `path` at once, no one sees a half-written file, and the last file stays.

    Args:
        replace: replace the file at `path`, if there is one.
        mode: permissions, less what the umask takes away.

    Raises:
        FileExistsError: `path` exists and may not be replaced.
        OSError: the file cannot be written.
    """
    temporary = _neighbour(path)
    with ending_cleanly():
        try:
            with open(temporary, "x+b", opener=lambda name, flags: os.open(name, flags, mode)) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            _take_name(temporary, path, replace)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    sync(path.parent)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A folder that gets the name `path` when the block ends without an error, as a file does in `atomic_file`.

    An empty folder of that name is replaced. The content of the new folder is synced.

    Raises:
        OSError: the folder cannot be written, or there is a folder of that name that is not empty.
    """
    temporary = _neighbour(path)
    with ending_cleanly():
        try:
            temporary.mkdir()
            yield temporary
            for found in (*temporary.rglob("*"), temporary):
                sync(found)
            os.replace(temporary, path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    sync(path.parent)


@contextmanager
def writing(what: object, remedy: str) -> Iterator[None]:
    """In this block an OSError becomes one line: `what` cannot be written, why, and what to do."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{what}: cannot be written ({error.strerror or error}): {remedy}") from error


def check_new_folder(folder: Path) -> None:
    """Refuse a folder that could not be written at the end, before hours are spent.

    Raises:
        InputError: the path is a folder that is not empty, or not a folder, or cannot be written.
    """
    with writing(folder, "choose another folder"):
        if folder.is_dir() and any(folder.iterdir()):
            raise InputError(f"{folder} is not empty: choose a new folder, or remove it first")
    if os.path.lexists(folder) and not folder.is_dir():
        raise InputError(f"{folder} is a file: choose a new folder")
    check_place(folder, folder, "choose another folder")


def check_new_file(path: Path) -> None:
    """As `check_new_folder`, for a file that must not exist yet."""
    if os.path.lexists(path):
        raise InputError(f"{path} exists already: choose another name, or remove it first")
    check_place(path, path, "choose another place")


def check_place(path: Path, what: object, remedy: str) -> None:
    """Refuse a path that could not be written at the end, before hours are spent: a file is created there and removed.

    Args:
        path: a file or folder that will be written; missing folders above it will be created.
        what: its name in the message.

    Raises:
        InputError: the folder above it cannot be written, or is not a folder.
    """
    folder = path.absolute().parent
    while not os.path.lexists(folder):
        folder = folder.parent
    with writing(what, remedy):
        temporary = _neighbour(folder / path.name)
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC))
        temporary.unlink()


def sync(path: Path) -> None:
    """Make the content of a file, or the renames and removals in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _neighbour(path: Path) -> Path:
    path = path.absolute()
    return path.with_name(f".{path.name.lstrip('.')}.{os.getpid()}-{secrets.token_hex(4)}{TEMPORARY}")


def _take_name(temporary: Path, path: Path, replace: bool) -> None:
    if replace:
        os.replace(temporary, path)
        return
    try:
        os.link(temporary, path, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:  # the file system has no hard links
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        os.replace(temporary, path)
    else:
        temporary.unlink()


@contextmanager
def ending_cleanly() -> Iterator[None]:
    """In this block a signal that would end the process raises SystemExit instead, so that clean-up still happens.

    Nothing changes in a process that catches these signals itself, or outside of the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught = [number for number in _ENDING if signal.getsignal(number) is signal.SIG_DFL]
    for number in caught:
        signal.signal(number, _end)
    try:
        yield
    finally:
        for number in caught:
            if signal.getsignal(number) is _end:  # nothing else catches it by now
                signal.signal(number, signal.SIG_DFL)


def _end(number: int, _frame: FrameType | None) -> None:
    # A second signal ends the process at once.
    signal.signal(number, signal.SIG_DFL)
    raise SystemExit(128 + number)


def file_name(text: str) -> str:
    """The text as it may stand in a file's name: whatever is not an ASCII letter or digit, `_`, `.` or `-` becomes `_`.

    Different texts may become one.
    """
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "_.-") else "_" for letter in text)


def write_whole(path: Path, text: str) -> None:
    """Replace a small text file at once: readers see the old or the new content, never a part."""
    with atomic_file(path) as file:
        file.write(text.encode())
