"""An error in one line. A rank writes it at once, and a launcher repeats the first one after all ranks have ended."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Final

from mmae.terminal.message import fresh_line
from mmae.terminal.printable import printable

ERRORS: Final = "MMAE_ERRORS"


def first_line(error: BaseException) -> str:
    """The first line of an error's message; the name of its type if the message is empty."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def typed_line(error: BaseException) -> str:
    """The name of an error's type, and the first line of its message if there is one."""
    name, line = type(error).__name__, first_line(error)
    return name if line == name else f"{name}: {line}"


def say_error(line: str) -> None:
    """Write a line to stderr in one piece, because other ranks and other threads write to the same place.

    The line is also added to the file that `MMAE_ERRORS` names. A launcher creates that file on its own machine; ranks
    on other machines do not find it, and do not create it.
    """
    data = f"{printable(line)}\n".encode()
    # Earlier output of this process comes first. A closed or broken stream must not suppress the line.
    with suppress(OSError, ValueError):
        sys.stderr.flush()
    with suppress(OSError):
        os.write(2, fresh_line().encode() + data)
    if path := os.environ.get(ERRORS):
        with suppress(OSError):
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                os.write(descriptor, data)
            finally:
                os.close(descriptor)
