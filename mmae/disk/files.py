"""Files that are either whole under their name or not there at all, and the hash of a file's content."""

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

import xxhash

from mmae.errors import InputError

TEMPORARY: Final = ".tmp"

_ENDING: Final = (signal.SIGTERM, signal.SIGHUP)
"""Signals that end a process without its cleaning up, unless it catches them."""

_HASH_CHUNK: Final = 1 << 20


@contextmanager
def atomic_file(path: Path, replace: bool = True, mode: int = 0o666) -> Iterator[IO[bytes]]:
    """A binary file (also readable) that takes the name `path` once the block has ended without an error.

    Until then it is a neighbour, `.<name>.<this process and a draw>.tmp`, which an error takes away: of several
    processes that write `path` at once none sees another's half, and the last one's file stays.

    Args:
        replace: take the place of what has the name `path`.
        mode: who may read and write it, less what the umask takes away.

    Raises:
        FileExistsError: there is something, and it may not be replaced.
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
    """A folder to fill, which takes the name `path` once the block has ended without an error; so `atomic_file`.

    There may be an empty folder of that name. What is in the folder is synced.

    Raises:
        OSError: it cannot be written, or there is something in a folder of that name.
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
    """In it an OSError becomes one line: `what` cannot be written, why, and what to do."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{what}: cannot be written ({error.strerror or error}): {remedy}") from error


def check_new_folder(folder: Path) -> None:
    """Refuse a folder that could not be filled at the end, before the time is spent.

    Raises:
        InputError: it holds something already, is not a folder, or cannot be written.
    """
    with writing(folder, "choose another folder"):
        if folder.is_dir() and any(folder.iterdir()):
            raise InputError(f"{folder} is not empty: choose a new folder, or remove it first")
    if os.path.lexists(folder) and not folder.is_dir():
        raise InputError(f"{folder} is a file: choose a new folder")
    check_place(folder, folder, "choose another folder")


def check_new_file(path: Path) -> None:
    """As `check_new_folder`, for a file that must not be there yet."""
    if os.path.lexists(path):
        raise InputError(f"{path} exists already: choose another name, or remove it first")
    check_place(path, path, "choose another place")


def check_place(path: Path, what: object, remedy: str) -> None:
    """Refuse a place that could not be written at the end, before the time is spent: a neighbour is made and removed.

    Args:
        path: of a file or folder to come; folders above it that are missing will be made.
        what: what to call it.

    Raises:
        InputError: the folder that it will lie in cannot be written to, or is no folder.
    """
    folder = path.absolute().parent
    while not os.path.lexists(folder):
        folder = folder.parent
    with writing(what, remedy):
        temporary = _neighbour(folder / path.name)
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC))
        temporary.unlink()


def sync(path: Path) -> None:
    """Make what a file holds, or the renames and removals in a folder, last through a power cut."""
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
    except OSError:  # no hard links there
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        os.replace(temporary, path)
    else:
        temporary.unlink()


@contextmanager
def ending_cleanly() -> Iterator[None]:
    """In it a signal that would end the process at once raises SystemExit: what was begun is taken away first.

    A process that catches these signals itself, and a thread beside the main one, are left alone.
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
            if signal.getsignal(number) is _end:  # nothing else has begun to catch it
                signal.signal(number, signal.SIG_DFL)


def _end(number: int, _frame: FrameType | None) -> None:
    # A second one ends the process, whatever it is at.
    signal.signal(number, signal.SIG_DFL)
    raise SystemExit(128 + number)


def stream_hash(file: IO[bytes]) -> str:
    """xxh3-128 of a file's content, hexadecimal; a chunk in memory at a time."""
    file.seek(0)
    hasher = xxhash.xxh3_128()
    while chunk := file.read(_HASH_CHUNK):
        hasher.update(chunk)
    return hasher.hexdigest()


def write_whole(path: Path, text: str) -> None:
    """Replace a small text file at once: readers see the old or the new, never a part."""
    with atomic_file(path) as file:
        file.write(text.encode())
