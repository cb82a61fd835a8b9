"""Recipe keys that have new names. An old name works for one more minor version, with a warning."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, Final

from mmae.errors import InputError
from mmae.terminal.printable import printable

RENAMED: Final[Mapping[str, str]] = MappingProxyType({})
"""Old dotted key -> new dotted key.

A rename adds a line here, and the next minor version removes the line. Until then recipes, overrides, the config.yaml
of a run and the config.json of a model folder may use the old name.
"""


def with_new_names(flat: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """The same values, with the new name of each key.

    Args:
        origin: where the keys come from; messages name it.

    Raises:
        InputError: a key is set by its old name and by its new one.
    """
    return {new_name(key, flat, origin): value for key, value in flat.items()}


def new_name(key: str, keys: Iterable[str], origin: str) -> str:
    """The present name of a key; warns once if it was renamed.

    Args:
        keys: all keys that are set at the same place.
        origin: where the keys come from; messages name it.

    Raises:
        InputError: the key is also set by its new name.
    """
    if key not in RENAMED:
        return key
    new = RENAMED[key]
    if new in keys:
        raise InputError(f"{origin}: {key!r} is the old name of {new!r}, and both are set: remove {key!r}")
    _warn(f"mmae: warning: {origin}: {key!r} is now named {new!r}: rename it before the next minor version")
    return new


def old_sections() -> set[str]:
    """Sections that old names begin with."""
    return {key.partition(".")[0] for key in RENAMED}


@cache
def _warn(line: str) -> None:
    # A start reads its settings several times, and every rank reads them.
    if os.environ.get("RANK", "0") == "0":
        print(printable(line), file=sys.stderr)
