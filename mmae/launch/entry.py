"""How the programs that `launchers/` calls end: bad input is one line on stderr, and status 2."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

from mmae.terminal.edge import guarded as run_guarded


def entry(main: Callable[..., int]) -> Callable[..., int]:
    """Around a program's `main`, which returns its exit status."""

    @wraps(main)
    def guarded(*words: str) -> int:
        return run_guarded(lambda: main(*words), name="")

    return guarded
