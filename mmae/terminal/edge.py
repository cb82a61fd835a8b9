"""The edge of every command: how its arguments are read, and how it ends after an error from outside.

An error caused by the user, the file system or a closed pipe is one line and an exit status. A traceback means a bug.
"""

from __future__ import annotations

import argparse
import errno
import io
import os
import re
import select
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NoReturn, TextIO

from mmae.errors import EXIT_BAD_INPUT, EXIT_FAILED, InputError
from mmae.terminal.missing_package import missing_package
from mmae.terminal.printable import printable

EXIT_INTERRUPTED: Final = 128 + signal.SIGINT
EXIT_CLOSED_PIPE: Final = 128 + signal.SIGPIPE

_ELSEWHERE: Final = "choose another place"
_RIGHTS: Final = "ask its owner for the permission, or choose another place"
_ROOM: Final = "make room there, then run again"
_REMEDIES: Final = {
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: _ELSEWHERE,
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.ENOENT: "check its name, and whether it has been removed",
    errno.ENOTDIR: "check its name",
    errno.EISDIR: "name a file",
    errno.EEXIST: "choose another name, or remove it",
    errno.ENOTEMPTY: "choose another name, or remove it",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "its symbolic links form a circle: correct them",
    errno.EMFILE: "allow more open files (ulimit -n)",
    errno.ENFILE: "the machine has too many open files: end some programs",
    errno.EIO: "check the disk, or the network that it is reached by",
    errno.ESTALE: "mount that file system again",
}
"""What to do about an error of the operating system. Any other error is a bug."""

_LOST_READER: Final = re.compile(r"DataLoader worker \(pid.*")
"""How torch says that a process which reads tiles has ended: in a RuntimeError, raised anywhere in the program."""

_HOME: Final = re.compile(r"(?P<option>--[\w-]+=)?(?P<place>~(?:/.*)?)", re.DOTALL)


class Parser(argparse.ArgumentParser):
    """A parser that reports errors as InputError, and so in one line."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"command line: {message} (see {self.prog} --help)")


def parse(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """The arguments of a command. Options may stand between other words, and `~` is the home folder.

    A shell does not expand `--out=~/x` and `"~/x"`, and a folder with the name `~` would be created.
    """
    words = _with_lists([_with_home(word) for word in words])
    # Behind `--` no word is an option, which `parse_intermixed_args` ignores (Python 3.11).
    return parser.parse_args(words) if "--" in words else parser.parse_intermixed_args(words)


def _with_lists(words: Sequence[str]) -> Sequence[str]:
    """Give a list that looks like an option, such as `-,B3`, to the option before it."""
    joined: list[str] = []
    for word in words:
        listed = word.startswith("-,") and joined and joined[-1].startswith("--") and "=" not in joined[-1]
        joined.append(f"{joined.pop()}={word}" if listed else word)
    return joined


def _with_home(word: str) -> str:
    found = _HOME.fullmatch(word)
    return (found["option"] or "") + os.path.expanduser(found["place"]) if found else word


@dataclass(frozen=True)
class Ending:
    """The end of a command after an error from outside: its exit status, and its message (may be empty)."""

    status: int
    line: str


def guarded(
    work: Callable[[], int], *, name: str = "mmae: ", say: Callable[[BaseException, str], None] | None = None
) -> int:
    """Run a command. An error from outside becomes one line and an exit status.

    Args:
        work: the command; returns its exit status.
        name: is put in front of the line.
        say: prints the line of an error instead of stderr.

    Returns:
        the exit status: that of `work`, or of the `Ending`.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file's name may have characters that the terminal cannot show.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = work()
        if sys.stdout is not None:
            sys.stdout.flush()
    except BaseException as error:
        ended = ending(error)
        if ended is not None and ended.line:
            (say or _print)(error, f"{name}{ended.line}")
        _let_go_of_output()
        if ended is None:
            raise
        return ended.status
    return status


def ending(error: BaseException) -> Ending | None:
    """The end of a command after this error; None for a bug.

    The status is 2 for bad input, refusals of the file system and missing libraries, 1 if memory is exhausted or a
    process that reads tiles was killed, 130 for an interrupt, and 141 if the reader of the output has ended.
    """
    if isinstance(error, SystemExit | GeneratorExit):
        return None
    if _was_interrupted(error):
        return Ending(EXIT_INTERRUPTED, "interrupted")
    if isinstance(error, InputError):
        return Ending(EXIT_BAD_INPUT, f"error: {printable(str(error))}")
    if isinstance(error, ModuleNotFoundError):
        line = missing_package(error, "mmae")
        return None if line is None else Ending(EXIT_BAD_INPUT, f"error: {line}")
    if isinstance(error, MemoryError):
        what = f" ({printable(str(error))})" if str(error) else ""
        return Ending(EXIT_FAILED, f"error: out of memory{what}: ask for less at once, or use a larger machine")
    return _refusal(error) if isinstance(error, OSError) else _lost_reader(error)


def _lost_reader(error: BaseException) -> Ending | None:
    """The end after a process that reads tiles was killed; None for another error."""
    found = _LOST_READER.search(str(error)) if isinstance(error, RuntimeError) else None
    if found is None:
        return None
    advice = "if the machine ran out of memory (dmesg says so), lower data.workers or data.prefetch; then start again"
    return Ending(EXIT_FAILED, f"error: {printable(found[0].strip().rstrip('.'))}: {advice}")


def _refusal(error: OSError) -> Ending | None:
    """The end after an error of the operating system."""
    if isinstance(error, BrokenPipeError) and any(map(_has_no_reader, (sys.stdout, sys.stderr))):
        return Ending(EXIT_CLOSED_PIPE, "")
    if error.errno not in _REMEDIES:
        return None
    where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
    return Ending(EXIT_BAD_INPUT, f"error: {printable(where)}{error.strerror}: {_REMEDIES[error.errno]}")


def _was_interrupted(error: BaseException) -> bool:
    """Whether an interrupt caused the error. During an import or clean-up it is hidden behind another error."""
    seen: set[int] = set()
    behind: BaseException | None = error
    while behind is not None and id(behind) not in seen:
        if isinstance(behind, KeyboardInterrupt):
            return True
        seen.add(id(behind))
        behind = behind.__cause__ or behind.__context__
    return False


def _has_no_reader(stream: TextIO | None) -> bool:
    try:
        descriptor = stream.fileno() if stream is not None else -1
    except (OSError, ValueError):
        return False
    if descriptor < 0:
        return False
    asked = select.poll()
    asked.register(descriptor, 0)
    return any(event & select.POLLERR for _, event in asked.poll(0))


def _let_go_of_output() -> None:
    """Drop output that could not be printed. Python would try again at exit, and complain."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print(_: BaseException, line: str) -> None:
    print(line, file=sys.stderr)
