"""The edge of every command: how its words are read, and how it ends when something outside it goes wrong.

What a user, a file system or a closed pipe brings about is one line and an exit status; a traceback is a fault of ours.
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
from mmae.terminal.printable import printable

EXIT_INTERRUPTED: Final = 128 + signal.SIGINT
EXIT_CLOSED_PIPE: Final = 128 + signal.SIGPIPE

_ELSEWHERE: Final = "choose another place"
_RIGHTS: Final = "get the right to it from its owner, or choose another place"
_ROOM: Final = "make room there, then run again"
_REMEDIES: Final = {
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: _ELSEWHERE,
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.ENOENT: "look whether its name is right, and whether it was removed meanwhile",
    errno.ENOTDIR: "look whether its name is right",
    errno.EISDIR: "name a file",
    errno.EEXIST: "choose another name, or remove it",
    errno.ENOTEMPTY: "choose another name, or remove it",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "its symbolic links lead in a circle: put them right",
    errno.EMFILE: "allow more open files (ulimit -n)",
    errno.ENFILE: "the machine has too many open files: end what you do not need",
    errno.EIO: "look at the disk, or at the network that it hangs on",
    errno.ESTALE: "mount that file system anew",
}
"""What to do about an error of the operating system; any other one is a fault of ours."""

_HOME: Final = re.compile(r"(?P<option>--[\w-]+=)?(?P<place>~(?:/.*)?)", re.DOTALL)


class Parser(argparse.ArgumentParser):
    """A parser whose complaint is an InputError, and so one line."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"command line: {message} (see {self.prog} --help)")


def parse(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """The words of a command. Options may stand between other words, and `~` is the home folder.

    A shell leaves `--out=~/x` and `"~/x"` as they are, and a folder named `~` would be made.
    """
    words = [_with_home(word) for word in words]
    # Behind `--` all words are plain: parsing them between options forgets that (Python 3.11).
    return parser.parse_args(words) if "--" in words else parser.parse_intermixed_args(words)


def _with_home(word: str) -> str:
    found = _HOME.fullmatch(word)
    return (found["option"] or "") + os.path.expanduser(found["place"]) if found else word


@dataclass(frozen=True)
class Ending:
    """How a command ends that something outside it has stopped: its status, and what is to be said, if anything."""

    status: int
    line: str


def guarded(
    work: Callable[[], int], *, name: str = "mmae: ", say: Callable[[BaseException, str], None] | None = None
) -> int:
    """Run a command; what stops it from outside becomes one line, and a status.

    Args:
        work: the command; returns its exit status.
        name: stands in front of the line.
        say: prints the line of an error, in place of stderr.

    Returns:
        that of `work`, or of the `Ending`.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file's name need not be text that the terminal knows.
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
    """What an error is to a user; None for a fault of ours.

    The status is 2 for bad input and for what the file system refuses, 1 where the memory is too small, 130 for an
    interrupt, and 141 where nobody reads the output any more.
    """
    if isinstance(error, SystemExit | GeneratorExit):
        return None
    if _was_interrupted(error):
        return Ending(EXIT_INTERRUPTED, "interrupted")
    if isinstance(error, InputError):
        return Ending(EXIT_BAD_INPUT, f"error: {printable(str(error))}")
    if isinstance(error, MemoryError):
        what = f" ({printable(str(error))})" if str(error) else ""
        return Ending(EXIT_FAILED, f"error: out of memory{what}: ask for less at once, or use a larger machine")
    return _refusal(error) if isinstance(error, OSError) else None


def _refusal(error: OSError) -> Ending | None:
    """What the operating system has refused."""
    if isinstance(error, BrokenPipeError) and any(map(_has_no_reader, (sys.stdout, sys.stderr))):
        return Ending(EXIT_CLOSED_PIPE, "")
    if error.errno not in _REMEDIES:
        return None
    where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
    return Ending(EXIT_BAD_INPUT, f"error: {printable(where)}{error.strerror}: {_REMEDIES[error.errno]}")


def _was_interrupted(error: BaseException) -> bool:
    """An interrupt that came while a library was imported, or in clean-up, stands behind what was raised then."""
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
    """Python would try once more at its end to print what could not be printed, and complain."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print(_: BaseException, line: str) -> None:
    print(line, file=sys.stderr)
