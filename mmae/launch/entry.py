"""How the programs that `launchers/` calls end: bad input is one line on stderr, and status 2."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps

from mmae.errors import EXIT_BAD_INPUT, InputError


def entry(main: Callable[..., int]) -> Callable[..., int]:
    """Around a program's `main`, which returns its exit status."""

    @wraps(main)
    def guarded(*words: str) -> int:
        try:
            return main(*words)
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            return EXIT_BAD_INPUT

    return guarded
