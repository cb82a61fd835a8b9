"""What the programs that `launchers/` call have in common: arguments, exit, and how they are called again."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Sequence
from functools import wraps
from importlib import resources
from typing import Final

from mmae.errors import InputError
from mmae.terminal.edge import guarded as run_guarded

RESTARTS: Final = "--restarts"
COMMAND: Final = "MMAE_COMMAND"
"""The command that called the launcher. Ranks that have stopped print it, so that the user can go on with it."""


def entry(main: Callable[..., int]) -> Callable[..., int]:
    """Wrap a program's `main`, which returns its exit status. Bad input gives one line on stderr and status 2."""

    @wraps(main)
    def guarded(*words: str) -> int:
        return run_guarded(lambda: main(*words), name="")

    return guarded


def take_restarts(words: Sequence[str]) -> tuple[int, list[str]]:
    """The number after `--restarts`, if that is the first word, and the words that follow.

    Raises:
        InputError: it is not a number.
    """
    if list(words[:1]) != [RESTARTS]:
        return 0, list(words)
    if len(words) < 2 or not re.fullmatch(r"\d{1,6}", words[1], re.ASCII):
        raise InputError(f"{RESTARTS} needs a number, as in {RESTARTS} 3")
    return int(words[1]), list(words[2:])


def remember_call(script: str, words: Sequence[str], *, program: str = "bash", variables: Sequence[str] = ()) -> None:
    """Set `COMMAND` to the shell command that calls a launcher as it was called.

    Args:
        script: its file name in `launchers/`.
        program: one or more words before it.
        variables: environment variables that the launcher reads.
    """
    # Quoted as a whole, an assignment would be a program's name.
    told = [f"{name}={shlex.quote(value)} " for name in variables if (value := os.environ.get(name))]
    with resources.as_file(resources.files("launchers") / script) as path:
        os.environ[COMMAND] = f"{''.join(told)}{program} {shlex.join([str(path), *words])}"


def is_dry_run(command: Sequence[str]) -> bool:
    """Whether DRY_RUN is set. If so, print the command; the caller stops."""
    if not os.environ.get("DRY_RUN"):
        return False
    print(shlex.join(command))
    return True
