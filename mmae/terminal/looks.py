"""How text looks on a terminal: colours where one is shown, sparklines, lines that fit."""

from __future__ import annotations

import math
import os
import sys
import textwrap
from collections.abc import Sequence
from typing import Final, Literal

from mmae.terminal.printable import printable
from mmae.terminal.table import WIDTH

Look = Literal["good", "bad", "warning", "strong"]

_CODES: Final = {"good": "32", "bad": "1;31", "warning": "33", "strong": "1"}
_BARS: Final = "▁▂▃▄▅▆▇█"
_PLAIN_BARS: Final = "_.-~^"
TIE: Final = "\N{NO-BREAK SPACE}"
"""A space at which `fitted` ends no line."""


def coloured(text: str, look: Look) -> str:
    """The text in a colour where stdout is a terminal that shows some; else as it is (`NO_COLOR`, pipes, files)."""
    shows = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return f"\x1b[{_CODES[look]}m{text}\x1b[0m" if shows else text


def sparkline(numbers: Sequence[float | None], width: int = 40) -> str:
    """The course of some numbers in one line, at most `width` letters; empty without a finite one.

    A letter stands for the mean of several numbers where there are more than `width`; one without a number is a space.
    """
    known = [number if number is not None and math.isfinite(number) else None for number in numbers]
    count = min(width, len(known))
    parts = [known[at * len(known) // count : (at + 1) * len(known) // count] for at in range(count)]
    means = [_mean([number for number in part if number is not None]) for part in parts]
    finite = [mean for mean in means if mean is not None]
    if not finite:
        return ""
    bars = _BARS if "utf" in (sys.stdout.encoding or "").lower() else _PLAIN_BARS
    low, span = min(finite), max(finite) - min(finite)
    places = [None if mean is None else (mean - low) / span if span else 0.0 for mean in means]
    return "".join(" " if place is None else bars[min(int(place * len(bars)), len(bars) - 1)] for place in places)


def fitted(head: str, text: str, width: int = WIDTH) -> list[str]:
    """A text behind its head, made printable, in lines of at most `width` letters where words allow it.

    No line ends at a no-break space, which becomes a plain one.
    """
    # Before it is broken: a line end within a name is shown, and not taken for a space.
    text = TIE.join(map(printable, text.split(TIE)))
    # Never none: words of a name must not begin a line, where they would look like a message of ours.
    indent = " " * (len(head) or 2)
    lines = textwrap.wrap(text, width, initial_indent=head, subsequent_indent=indent, break_long_words=False,
                          break_on_hyphens=False, drop_whitespace=True)  # fmt: skip
    return [line.replace(TIE, " ") for line in lines] or [head.rstrip()]


def _mean(numbers: Sequence[float]) -> float | None:
    return sum(numbers) / len(numbers) if numbers else None
