"""Reads amounts as people write them: 80GB, 1.2M."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Final

from mmae.errors import InputError

_MEMORY: Final = MappingProxyType({"GB": 10**9, "GiB": 2**30, "MB": 10**6, "MiB": 2**20, "TB": 10**12})
_COUNT: Final = MappingProxyType({"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9})
_AMOUNT: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", re.ASCII)


def bytes_of(text: str, option: str) -> int:
    """`80GB` -> 80 000 000 000.

    Raises:
        InputError: the text is not an amount of memory.
    """
    return _amount(text, _MEMORY, option, "an amount of memory, such as 80GB or 40GiB")


def count_of(text: str, option: str) -> int:
    """`1.2M` -> 1 200 000.

    Raises:
        InputError: the text is not such a number, or is below 1.
    """
    return _amount(text, _COUNT, option, "a number, such as 1.2M or 50000")


def share_of(text: str, option: str) -> float:
    """`0.35` -> 0.35.

    Raises:
        InputError: the text is not a number above 0 and at most 1.
    """
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise InputError(f"{option} {text}: give a share above 0 and at most 1, such as 0.35")
    return share


def amount_of(text: str, option: str) -> float:
    """`12.5` -> 12.5.

    Raises:
        InputError: the text is not a number above 0.
    """
    try:
        amount = float(text)
    except ValueError:
        amount = 0.0
    if not 0 < amount < float("inf"):
        raise InputError(f"{option} {text}: give a number above 0, such as 12.5")
    return amount


def rate_of(text: str, option: str) -> float:
    """`12.5` -> 12.5e9, bytes a second.

    Raises:
        InputError: the text is not a number above 0.
    """
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise InputError(f"{option} {text}: give GB a second, above 0, such as 12.5")
    return rate * 1e9


def _amount(text: str, units: MappingProxyType[str, int], option: str, wanted: str) -> int:
    found = _AMOUNT.fullmatch(text.strip())
    if found is None or found[2] not in units or (amount := round(float(found[1]) * units[found[2]])) < 1:
        raise InputError(f"{option} {text}: give {wanted}")
    return amount
