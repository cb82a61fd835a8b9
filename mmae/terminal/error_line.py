"""A rank's error in one line: said at once, and kept for a launcher that says the first again when all has ended."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Final

from mmae.terminal.printable import printable

ERRORS: Final = "MMAE_ERRORS"


def say_error(line: str) -> None:
    """Write a line to stderr, whole: other ranks, and other threads, write to the same place.

    It is also added to the file that `MMAE_ERRORS` names, which a launcher makes on its own machine: where ranks run
    elsewhere, none is made.
    """
    data = f"{printable(line)}\n".encode()
    # What this process said before comes before; a stream that is closed or broken must not keep the line back.
    with suppress(OSError, ValueError):
        sys.stderr.flush()
    with suppress(OSError):
        os.write(2, data)
    if path := os.environ.get(ERRORS):
        with suppress(OSError):
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                os.write(descriptor, data)
            finally:
                os.close(descriptor)
