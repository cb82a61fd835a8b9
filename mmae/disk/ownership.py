"""The owners of a run's or a model's files: files that other users wrote or can write are read only with `--trust`.

Such files name paths and commands, and DeepSpeed's files run code when they are loaded. A file is this user's own if it
belongs to this user or to root, and no other user may write it.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mmae.errors import InputError

if TYPE_CHECKING:
    import argparse

_ROOT: Final = 0
_DEFAULT_ACL: Final = "system.posix_acl_default"


def add_trust_argument(parser: argparse.ArgumentParser, what: str = "files") -> None:
    """Add `--trust`, for every command that reads a run or a model."""
    parser.add_argument(
        "--trust", action="store_true", help=f"read {what} that other users wrote or can write, and what they name"
    )


def check_tree(folder: Path, trust: bool) -> None:
    """`check_owner` of a folder and of everything below it, also behind symbolic links.

    Raises:
        InputError: see `check_owner`.
    """
    if not trust:
        check_owner(_all_below(folder, set()), trust)


def check_owner(paths: Iterable[Path], trust: bool) -> None:
    """Refuse to read files that other users wrote or can write. Symbolic links and their targets are both checked.

    Raises:
        InputError: without `trust`, a path belongs to neither this user nor root, or other users may write it.
    """
    for path in () if trust else paths:
        with suppress(FileNotFoundError, NotADirectoryError):
            for about in (path.lstat(), path.stat()):
                if problem := _problem(about):
                    raise InputError(
                        f"{path}: {problem}, and what it holds can run code: say --trust (in Python trust=True) "
                        "if you know where it is from, or make it your own (chown, chmod go-w)"
                    )


def write_as_own() -> None:
    """Make every file that this process creates from now on writable by this user alone."""
    os.umask(os.umask(0o077) | 0o022)


def keep_from_others(folder: Path) -> None:
    """Let only this user write into a folder; other users read it as before.

    The folder's default access list, by which others could write new files in it, is removed. See also `write_as_own`.
    """
    # Some file systems have no access lists, or store them elsewhere.
    with suppress(OSError):
        os.removexattr(folder, _DEFAULT_ACL)
    with suppress(OSError):
        mode = stat.S_IMODE(folder.stat().st_mode)
        if mode & 0o022:
            folder.chmod(mode & ~0o022)


def _problem(about: os.stat_result) -> str:
    """Why a file is not this user's own; empty if it is."""
    if about.st_uid not in {os.geteuid(), _ROOT}:
        return f"belongs to another user ({_name(about.st_uid)})"
    # The mode of a symbolic link has no meaning.
    if stat.S_ISLNK(about.st_mode):
        return ""
    if about.st_mode & stat.S_IWOTH:
        return "is writable by everyone"
    if about.st_mode & stat.S_IWGRP and not _is_private(about.st_gid):
        return f"is writable by its group ({_group_name(about.st_gid)})"
    return ""


def _is_private(group: int) -> bool:
    """Whether this user is the only member of a group, as many systems have one group a user. Root's does not count."""
    try:
        user, found = pwd.getpwuid(os.geteuid()), grp.getgrgid(group)
    except KeyError:
        return False
    return 0 != group == user.pw_gid and found.gr_name == user.pw_name and set(found.gr_mem) <= {user.pw_name}


def _all_below(path: Path, seen: set[tuple[int, int]]) -> Iterator[Path]:
    yield path
    if not path.is_dir():
        return
    about = path.stat()
    if (about.st_dev, about.st_ino) in seen:
        return
    seen.add((about.st_dev, about.st_ino))
    for name in sorted(os.listdir(path)):
        yield from _all_below(path / name, seen)


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def _group_name(group: int) -> str:
    try:
        return grp.getgrgid(group).gr_name
    except KeyError:
        return str(group)
