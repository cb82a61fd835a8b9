"""Errors that a user can cause, and the exit statuses of commands."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

from mmae.terminal.printable import printable

EXIT_FAILED: Final = 1
EXIT_BAD_INPUT: Final = 2
EXIT_LOST_NUMBERS: Final = 3
EXIT_LOST_RANK: Final = 4


class InputError(Exception):
    """Bad input. Its message is one line that says what, where, and what to do.

    Commands print the line and exit with status 2. It is raised before anything is written, or after partial output
    has been removed. Names in it come from files and paths; they cannot control a terminal or add a second line.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


class DoesNotFitError(InputError):
    """A recipe that does not fit into a rank's memory. Only that rank knows it, so that rank reports it."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest known one, or all of them."""
    known = list(known)
    near = get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f" (known: {', '.join(known)})"


def check_seed(seed: int, option: str) -> None:
    """Refuse a seed that does not fit into 64 bits.

    Raises:
        InputError: the seed is out of range; the message names the option.
    """
    if not -(1 << 63) <= seed < 1 << 63:
        raise InputError(f"{option} {seed}: must fit into 64 bits: choose one between -2**63 and 2**63 - 1")
