"""Locks in torch's folder of built extensions: which process holds one, whether it lives, and messages while it builds.

DeepSpeed has torch build its C++ ops, one process at a time. Older releases of torch wait until a lock file is gone,
even if the process that made it was killed. Newer releases lock the file, and the lock ends with the process.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mmae.processes import command_of, parent_of

LOCK: Final = "lock"
_LOOK_S: Final = 5.0
_AGAIN_S: Final = 120.0
_SILENT_S: Final = 600.0
"""A running build writes more often than this, also on another machine."""
_LOCAL: Final = frozenset({"ext2/ext3", "xfs", "btrfs", "tmpfs", "overlayfs", "zfs", "f2fs", "ramfs"})
_BREAKERS: Final = ".mmae-breaking-locks"


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock.

    Attributes:
        pid: 0 for a process of another machine, or of another user that this one may not inspect.
        command: its first words.
    """

    pid: int
    command: str = ""

    def __str__(self) -> str:
        return f"process {self.pid} ({self.command})" if self.pid else "a process of another machine or user"


def cache_root() -> Path:
    """The folder that torch builds extensions in. Without TORCH_EXTENSIONS_DIR it has one folder for each version."""
    if said := os.environ.get("TORCH_EXTENSIONS_DIR"):
        return Path(said).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "torch_extensions"


def locks(root: Path) -> list[Path]:
    """The locks of all builds in a folder."""
    return sorted(path for pattern in (f"*/{LOCK}", f"*/*/{LOCK}") for path in root.glob(pattern) if path.is_file())


def holder_of(lock: Path) -> Holder | None:
    """The process that holds a lock; None where no living process does, or there is no such lock."""
    try:
        about = lock.stat()
    except OSError:
        return None
    if pid := _locked_by(about):
        return Holder(pid, command_of(pid))
    # Older torch: the lock is the file's existence. Its maker keeps it open; others only check that it exists.
    if pid := _opened_by(about):
        return Holder(pid, command_of(pid))
    if _is_locked(lock):
        return Holder(0)
    if _file_system(lock) in _LOCAL and os.getuid() in {0, about.st_uid}:
        return None
    return Holder(0) if time.time() - _last_written(lock.parent) < _SILENT_S else None


def break_dead(lock: Path) -> bool:
    """Remove a lock that no living process holds. Only one process at a time checks and removes.

    Returns:
        whether it was removed.
    """
    with suppress(OSError), _alone(lock.parent):
        if lock.exists() and holder_of(lock) is None:
            lock.unlink()
            return True
    return False


@contextmanager
def said_while_waiting(lock: Path, op: str, say: Callable[[str], None], look_s: float = _LOOK_S) -> Iterator[None]:
    """A context around building or loading an op. After a few seconds a line says what it waits for, and what to do."""
    done = threading.Event()
    thread = threading.Thread(target=_watch, args=(lock, op, say, look_s, done), name="op lock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def waiting_line(lock: Path, op: str, holder: Holder) -> str:
    """What a waiting start says. Another rank of the same start may build for this one."""
    if holder.pid == os.getpid() or (holder.pid and parent_of(holder.pid) == os.getppid()):
        return f"building DeepSpeed's op {op} in {lock.parent}, once: a minute or two, longer on a busy machine"
    stop = f"stop that process (kill {holder.pid})" if holder.pid else "stop that build"
    return (
        f"waiting for {holder}, which builds DeepSpeed's op {op} and holds {lock}. "
        "This start goes on when the build is done. "
        f"To go on without it: {stop}, or start with TORCH_EXTENSIONS_DIR=FOLDER, a folder of your own"
    )


def _watch(lock: Path, op: str, say: Callable[[str], None], look_s: float, done: threading.Event) -> None:
    said, when = None, 0.0
    while not done.wait(look_s):
        holder = holder_of(lock)
        if holder is None or done.is_set():
            continue
        if holder != said or time.monotonic() - when >= _AGAIN_S:
            said, when = holder, time.monotonic()
            say(waiting_line(lock, op, holder))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder / _BREAKERS, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _locked_by(about: os.stat_result) -> int:
    """The process that the kernel lists for a locked file; 0 for none, or one in another process namespace."""
    place = f"{os.major(about.st_dev):02x}:{os.minor(about.st_dev):02x}:{about.st_ino}"
    with suppress(OSError):
        for line in Path("/proc/locks").read_text().splitlines():
            words = line.split()
            if "->" not in words and len(words) > 5 and words[5] == place:
                return max(0, int(words[4]))
    return 0


def _is_locked(lock: Path) -> bool:
    """Whether any process has locked the file, also one that the kernel does not list here."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _opened_by(about: os.stat_result) -> int:
    for entry in Path("/proc").glob("[0-9]*/fd"):
        with suppress(OSError):
            for descriptor in entry.iterdir():
                with suppress(OSError):
                    if os.path.samestat(descriptor.stat(), about):
                        return int(entry.parent.name)
    return 0


def _file_system(path: Path) -> str:
    done = subprocess.run(["stat", "-f", "-c", "%T", str(path)], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _last_written(folder: Path) -> float:
    return max((path.lstat().st_mtime for path in (folder, *folder.iterdir())), default=0.0)
