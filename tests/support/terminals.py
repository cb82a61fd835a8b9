"""A terminal as people see it: what stderr writes ends up as lines on a screen."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import termios
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr

_CLEAR = "\x1b[K"


class Screen:
    """What a terminal shows after `closed`.

    Attributes:
        lines: without spaces at their ends.
    """

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self.lines: list[str] = []

    def show(self, written: str) -> None:
        """Take what was written, as a terminal does: `\\r` goes back in the line, whose letters are then replaced."""
        for row in written.split("\n"):
            shown = ""
            for part in row.split("\r"):
                cleared = part.startswith(_CLEAR)
                text = part.removeprefix(_CLEAR)
                shown = text if cleared else text + shown[len(text) :]
            begins = range(0, max(1, len(shown)), self._columns)
            self.lines += [shown[at : at + self._columns].rstrip() for at in begins]
        self.lines = [line for line in self.lines if line]


@contextmanager
def stderr_on_a_terminal(columns: int) -> Iterator[Screen]:
    """`sys.stderr` is a terminal of so many columns within the context; afterwards the screen is known."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    screen = Screen(columns)
    written = b""
    with (
        os.fdopen(leader, "rb", buffering=0) as reader,
        os.fdopen(follower, "w") as stderr,
        redirect_stderr(stderr),
    ):
        yield screen
        stderr.flush()
        # A terminal that is closed forgets what was not read.
        os.set_blocking(leader, False)
        while part := reader.read(65536):
            written += part
    screen.show(written.decode().replace("\r\n", "\n"))
