"""The folders of a run as a host sees them: shards, run folder, DeepSpeed's cache of built ops."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from mmae.disk.regular_file import read_regular_text
from mmae.doctor.agent.facts import torch_built_for, user_name
from mmae.engine.operators.op_lock import cache_root, holder_of
from mmae.errors import InputError
from mmae.run.layout import LOCK
from mmae.run.locking.lock_owner import is_here, lives, parse_holder
from mmae.terminal.plurals import counted

TOKEN: Final = re.compile(r"\.lock-doctor-[0-9a-f]{16}")
"""Name of a file that one host writes and the others look for. A training counts a folder of such files as empty."""


@dataclass(frozen=True)
class Shards:
    """A shard set: the index's fingerprint, or the problem."""

    folder: str
    fingerprint: str
    problem: str


@dataclass(frozen=True)
class Folder:
    """The folder that a run will write to.

    Attributes:
        path: the folder itself, or the nearest one above it that exists.
        exists: whether the folder itself exists.
        holder: the training that holds the run's lock, as text; "" for none.
        holder_lives: "yes", "no", or "elsewhere" if this host cannot see that process.
        silent: seconds since the holder touched its lock.
    """

    path: str
    exists: bool
    writable: bool
    owner: str
    mode: str
    free: int
    holder: str
    holder_lives: str
    silent: float


@dataclass(frozen=True)
class OpLock:
    """The lock file of an op's build. `held`: a process of this host has it open."""

    path: str
    changed: float
    age: float
    held: bool


@dataclass(frozen=True)
class OpCache:
    """The folder in which torch builds extensions.

    Attributes:
        batons: whether the mere existence of a lock file blocks other builds, as in older versions of torch; newer ones
            lock the file, and the system unlocks it when the process ends.
    """

    path: str
    writable: bool
    batons: bool
    locks: list[OpLock]


def look_at_shards(folder: str) -> Shards:
    """Open the index, and check that every file that it names exists with its size."""
    from mmae.data.shards.index import open_index

    try:
        index = open_index(folder)
        wrong = [shard.name for shard in index.shards if _size(Path(folder) / shard.name) != shard.bytes]
    except (InputError, OSError) as error:
        return Shards(folder, "", str(error))
    problem = (
        f"{len(wrong)} of {counted(len(index.shards), 'shard')} missing or truncated, first {wrong[0]}" if wrong else ""
    )
    return Shards(folder, index.fingerprint, problem)


def look_at_run(folder: str) -> Folder:
    run = Path(folder).absolute()
    place = next(path for path in (run, *run.parents) if path.is_dir())
    about = place.stat()
    holder, lives, silent = _holder(run)
    return Folder(
        path=str(place),
        exists=place == run,
        writable=os.access(place, os.W_OK | os.X_OK),
        owner=user_name(about.st_uid),
        mode=f"{about.st_mode & 0o7777:04o}",
        free=shutil.disk_usage(place).free,
        holder=holder,
        holder_lives=lives,
        silent=silent,
    )


def look_at_op_cache() -> OpCache:
    """The folder in which torch builds extensions, and the locks of builds in it."""
    path = op_cache_folder()
    place = next(each for each in (path, *path.parents) if each.is_dir())
    locks = []
    for lock in sorted(path.glob("*/lock")):
        try:
            about = lock.stat()
        except OSError:
            continue
        locks.append(OpLock(str(lock), about.st_mtime, time.time() - about.st_mtime, holder_of(lock) is not None))
    return OpCache(str(path), os.access(place, os.W_OK | os.X_OK), uses_batons(), locks)


def op_cache_folder() -> Path:
    if "TORCH_EXTENSIONS_DIR" in os.environ:
        return cache_root()
    cuda, hip = torch_built_for("cuda"), torch_built_for("hip")
    kind = f"rocm{hip.replace('.', '')}" if hip else f"cu{cuda.replace('.', '')}" if cuda else "cpu"
    python = f"py{sys.version_info.major}{sys.version_info.minor}{getattr(sys, 'abiflags', '')}"
    return cache_root() / f"{python}_{kind}"


def uses_batons() -> bool:
    """Whether this torch waits until a build's lock file is removed. Its source says so, without a slow import."""
    spec = find_spec("torch")
    try:
        source = Path(spec.origin if spec and spec.origin else "").with_name("utils") / "cpp_extension.py"
        return "FileBaton(" in source.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False


def write_token(folder: str, name: str) -> Path:
    """Make an empty file of that name.

    Raises:
        ValueError: it is not a token's name.
        OSError: the file cannot be made.
    """
    path = _token(folder, name)
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
    return path


def sees_token(folder: str, name: str) -> bool:
    return _token(folder, name).is_file()


def _token(folder: str, name: str) -> Path:
    if not TOKEN.fullmatch(name):
        raise ValueError(f"{name!r} is not a token's name")
    return Path(folder) / name


def _holder(run: Path) -> tuple[str, str, float]:
    try:
        text = read_regular_text(run / LOCK)
        silent = max(0.0, time.time() - (run / LOCK).stat().st_mtime)
    except (OSError, ValueError):
        return "", "no", 0.0
    holder = parse_holder(text)
    if holder is None:
        return "an unreadable lock", "no", silent
    if is_here(holder):
        return str(holder), "yes" if lives(holder) else "no", silent
    return str(holder), "elsewhere", silent


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
