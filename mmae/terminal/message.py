"""Lines for people on stderr, beside the progress line of a rank."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Final

from mmae.terminal.looks import TIE, fitted
from mmae.terminal.printable import printable
from mmae.terminal.table import WIDTH

_FRESH: Final = "\r\x1b[K"
"""The cursor goes to the left edge, and its line is cleared."""


def fresh_line() -> str:
    """What a line begins with on stderr: on a terminal it takes the place of a progress line, which is drawn again.

    Another rank may show that line, and then nothing in this process knows of it.
    """
    try:
        shows = sys.stderr.isatty()
    except ValueError:  # closed
        return ""
    return _FRESH if shows and os.environ.get("TERM") != "dumb" else ""


def say(line: str) -> None:
    """Write one line to stderr, made printable."""
    from tqdm import tqdm

    tqdm.write(f"{fresh_line()}{printable(line)}", file=sys.stderr)


def tell(head: str, text: str) -> str:
    """Write a text that may be long to stderr, as `fitted` makes lines of it, and return it in one line.

    A line has at most 100 letters, and no more than the terminal shows.
    """
    width = WIDTH
    with suppress(OSError, ValueError):
        width = min(WIDTH, os.get_terminal_size(sys.stderr.fileno()).columns or WIDTH)
    for line in fitted(head, text, width):
        say(line)
    return f"{head}{text}".replace(TIE, " ")
