"""A list of tile ids to train on: a text file with one id on each line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from mmae.disk.regular_file import read_regular
from mmae.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class KeyList:
    """Tile ids.

    Attributes:
        path: the file.
        listed: the ids in the file's order, UTF-8.
        sorted: the ids in ascending order, each once, fixed-width UTF-8.
    """

    path: Path
    listed: tuple[bytes, ...]
    sorted: NDArray[np.bytes_]

    @property
    def fingerprint(self) -> str:
        """Identity of the list: the same for the same ids in whatever file and order."""
        return xxhash.xxh3_128_hexdigest(b"\n".join(self.sorted.tolist()))

    def first_of(self, some: NDArray[Any]) -> str:
        """The one of these ids that comes first in the file."""
        among = set(some.tolist())
        return next(key for key in self.listed if key in among).decode()


def read_keys(path: Path) -> KeyList:
    """The ids that a file lists. Empty lines are left out, and space around an id.

    Raises:
        InputError: the file is missing, is not text, or holds no id.
    """
    try:
        text = read_regular(path).decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): give data.keys a file of tile ids") from None
    except ValueError:
        raise InputError(f"{path}: not UTF-8 text: give data.keys a file of tile ids, one a line") from None
    listed = tuple(line.strip().encode() for line in text.split("\n") if line.strip())
    if not listed:
        raise InputError(f"{path}: names no tile: write one tile id a line, or leave data.keys out")
    return KeyList(path, listed, np.unique(np.array(listed)))
