"""Labels of one's own that a shard set's index holds: a class or some numbers a tile."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LABEL_NAME: Final = re.compile(r"\w{1,80}", re.ASCII)
MOST_NAMES: Final = 10_000
"""Classes, or numbers, of a label."""
LONGEST_NAME: Final = 200


@dataclass(frozen=True)
class LabelInfo:
    """What a label is: one of some `classes`, or some numbers, whose names are `parts`; the other is empty."""

    classes: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class TileLabels:
    """A label of all tiles (N) of a set.

    Attributes:
        info: what it is.
        value_N: of classes int32 (N,), ids, -1 where the class is not known; of numbers float64 (N, P), NaN where a
            number is not known.
    """

    info: LabelInfo
    value_N: NDArray[Any]


def stored_labels(labels: Mapping[str, LabelInfo]) -> list[dict[str, Any]]:
    """What the index's JSON says of labels."""
    return [{"name": name, "classes": list(each.classes), "parts": list(each.parts)} for name, each in labels.items()]


def parse_labels(stored: Any, datasets: Collection[str]) -> dict[str, LabelInfo]:
    """What `stored_labels` gave.

    Raises:
        KeyError, TypeError, ValueError: it is not that, or a label has the name of a dataset.
    """
    found: dict[str, LabelInfo] = {}
    for entry in stored:
        name, info = entry["name"], LabelInfo(tuple(entry["classes"]), tuple(entry["parts"]))
        if not LABEL_NAME.fullmatch(name) or name in found or name in datasets:
            raise ValueError("a label has no name of its own")
        names = info.classes or info.parts
        if bool(info.classes) == bool(info.parts) or len(names) > MOST_NAMES or len(set(names)) != len(names):
            raise ValueError(f"classes or parts of the label {name}")
        if not all(isinstance(each, str) and len(each) <= LONGEST_NAME for each in names):
            raise TypeError(f"names of the label {name}")
        found[name] = info
    return found


def check_label(name: str, label: TileLabels, count: int) -> None:
    """Raise ValueError if the values of `count` tiles are not of the kind that the label is."""
    value_N, info = label.value_N, label.info
    if info.classes:
        whole = value_N.dtype == np.dtype("<i4") and value_N.shape == (count,)
        if not whole or (count and not -1 <= int(value_N.min()) <= int(value_N.max()) < len(info.classes)):
            raise ValueError(f"label {name}")
    elif value_N.dtype != np.dtype("<f8") or value_N.shape != (count, len(info.parts)):
        raise ValueError(f"label {name}")


def words_of(labels: Mapping[str, LabelInfo]) -> list[str]:
    """Each label in words: its name, and its classes or numbers."""
    found = []
    for name, info in labels.items():
        names = info.classes or info.parts
        shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        if info.classes:
            found.append(f"{name} (classes: {shown})")
        else:
            found.append(f"{name} (a number)" if names == (name,) else f"{name} (numbers: {shown})")
    return found
