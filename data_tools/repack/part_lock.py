"""Locks on a folder of shards: who may plan and finish it, and who packs which part.

They are advisory, and let go by the system when their process ends, however it ends. On a file system without locks
everybody is let through: what is written stays whole all the same, it may only be written twice.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from mmae.disk.regular_file import append_regular
from mmae.errors import InputError

LOCK_SUFFIX: Final = ".lock"
FOLDER_LOCK: Final = f".repack{LOCK_SUFFIX}"

_PART_LOCK: Final = re.compile(r"\.part-(\d+)-of-(\d+)" + re.escape(LOCK_SUFFIX))
_POLL_SECONDS: Final = 0.05


@dataclass(frozen=True)
class Part:
    """Which share of the shards a command packs: those whose number is `number` - 1 modulo `of`."""

    number: int = 1
    of: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise InputError(f"--part {self}: give I/N with I from 1 to N, e.g. 1/4")

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @property
    def lock_name(self) -> str:
        return f".part-{self.number}-of-{self.of}{LOCK_SUFFIX}"

    def has(self, shard: int) -> bool:
        """Whether the shard of this number, counted over all splits, belongs to the part."""
        return shard % self.of == self.number - 1


def parse_part(text: str) -> Part:
    """`2/8` as a part.

    Raises:
        InputError: anything else.
    """
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if match is None:
        raise InputError(f"--part {text}: give I/N with I from 1 to N, e.g. 1/4")
    return Part(int(match.group(1)), int(match.group(2)))


@contextmanager
def folder_lock(out: Path) -> Iterator[None]:
    """Wait for the folder, and hold it for a moment: to plan, or to write the index."""
    while True:
        file = _open(out / FOLDER_LOCK)
        try:
            if _acquire(file) is False:
                time.sleep(_POLL_SECONDS)
            elif _is_at(file, out / FOLDER_LOCK):
                break
            # Else whoever held it has removed it: another may hold the new one.
        except BaseException:
            file.close()
            raise
        file.close()
    with file:
        yield


@contextmanager
def part_lock(out: Path, part: Part) -> Iterator[bool]:
    """Hold a part while it is packed; gives whether surely no other is being packed. Call it under `folder_lock`.

    Raises:
        InputError: the part is being packed already, or a part of another partition is.
    """
    with _open(out / part.lock_name) as file:
        acquired = _acquire(file)
        if acquired is False:
            raise InputError(f"{out}: another mmae repack is writing {_named(part)} there: wait for it")
        yield _alone(out, part) and acquired is True


def remove_locks(out: Path) -> None:
    """Remove the files of all locks; who holds one keeps it. Call it under `folder_lock`."""
    for path in out.glob(f".*{LOCK_SUFFIX}"):
        if path.name == FOLDER_LOCK or _PART_LOCK.fullmatch(path.name):
            path.unlink(missing_ok=True)


def _alone(out: Path, part: Part) -> bool:
    alone = True
    for path in out.glob(f".part-*{LOCK_SUFFIX}"):
        match = _PART_LOCK.fullmatch(path.name)
        if match is None or path.name == part.lock_name:
            continue
        other = Part(int(match.group(1)), int(match.group(2)))
        with _open(path) as file:
            acquired = _acquire(file)
        alone = alone and acquired is True
        if acquired is False and other.of != part.of:
            raise InputError(
                f"{out}: another mmae repack is writing {_named(other)} there: wait for it, or give --part I/{other.of}"
            )
    return alone


def _named(part: Part) -> str:
    return f"part {part}" if part.of > 1 else "the whole set"


def _open(path: Path) -> IO[bytes]:
    return append_regular(path)


def _acquire(file: IO[bytes]) -> bool | None:
    """Whether the lock could be had; None where there are no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_at(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
