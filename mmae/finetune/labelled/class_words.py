"""Classes of masks as a recipe lists them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mmae.errors import InputError

MOST_CLASSES: Final = 1000
"""Classes of a mask."""


def codes_and_names(classes: Sequence[str]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names and numbers of the classes that `source.classes` lists, as `1:water`, or as names of 0, 1, ...

    Raises:
        InputError: a word names no class, or a number a second time, or there are too few or too many.
    """
    found: dict[int, str] = {}
    for place, word in enumerate(classes):
        number, colon, name = word.partition(":")
        if not colon:
            number, name = str(place), word
        try:
            code = int(number)
        except ValueError:
            raise InputError(f"source.classes: {word!r} is not NUMBER:NAME, such as 1:water") from None
        if code in found or not name.strip():
            raise InputError(f"source.classes: {word!r} names no class, or a number a second time")
        found[code] = name.strip()
    if not 2 <= len(found) <= MOST_CLASSES:
        raise InputError(f"source.classes names {len(found)} classes: 2 to {MOST_CLASSES} are needed")
    codes = tuple(sorted(found))
    return tuple(found[code] for code in codes), codes
