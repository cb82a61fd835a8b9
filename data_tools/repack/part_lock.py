"""Locks on a folder of shards: who may plan and finish it, and who packs which part.

They are advisory, and the system releases them when their process ends, however it ends. On a file system without
locks every process may pass: what is written is whole all the same, but some of it may be written twice.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mmae.disk.file_lock import LockedFile
from mmae.errors import InputError

LOCK_SUFFIX: Final = ".lock"
FOLDER_LOCK: Final = f".repack{LOCK_SUFFIX}"

_PART_LOCK: Final = re.compile(r"\.part-(\d+)-of-(\d+)" + re.escape(LOCK_SUFFIX))
_POLL_SECONDS: Final = 0.05


@dataclass(frozen=True)
class Part:
    """The share of the shards that a command packs: every shard with a number equal to `number` - 1 modulo `of`."""

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
    """The part that a text such as `2/8` names.

    Raises:
        InputError: the text has another form.
    """
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if match is None:
        raise InputError(f"--part {text}: give I/N with I from 1 to N, e.g. 1/4")
    return Part(int(match.group(1)), int(match.group(2)))


@contextmanager
def folder_lock(out: Path) -> Iterator[None]:
    """Wait for the lock of the folder, and hold it for a moment: to plan, or to write the index."""
    while True:
        with closing(_open(out / FOLDER_LOCK)) as file:
            if file.try_lock(exclusive=True) is False:
                time.sleep(_POLL_SECONDS)
            elif file.is_named():
                yield
                return
            # Otherwise its last holder has removed it, and another process may hold the new one.


@contextmanager
def part_lock(out: Path, part: Part) -> Iterator[bool]:
    """Hold the lock of a part while it is packed. Call it under `folder_lock`.

    Yields:
        whether it is certain that no other part is being packed.

    Raises:
        InputError: the part is being packed already, or a part of another partition is.
    """
    with closing(_open(out / part.lock_name)) as file:
        acquired = file.try_lock(exclusive=True)
        if acquired is False:
            raise InputError(f"{out}: another mmae repack is writing {_named(part)} there: wait for it")
        yield _alone(out, part) and acquired is True


def remove_locks(out: Path) -> None:
    """Remove the files of all locks; a process that holds one keeps it. Call it under `folder_lock`."""
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
        with closing(_open(path)) as file:
            acquired = file.try_lock(exclusive=True)
        alone = alone and acquired is True
        if acquired is False and other.of != part.of:
            raise InputError(
                f"{out}: another mmae repack is writing {_named(other)} there: wait for it, or give --part I/{other.of}"
            )
    return alone


def _named(part: Part) -> str:
    return f"part {part}" if part.of > 1 else "the whole set"


def _open(path: Path) -> LockedFile:
    # Other users of a group may pack other parts.
    return LockedFile(path, os.O_RDWR | os.O_CREAT, mode=0o666)
