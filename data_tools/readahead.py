"""Telling the system which parts of a file are wanted next, so that it fetches them while the cores are at work."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from data_tools.chunks import Chunks

_JOIN_BYTES: Final = 1 << 16
"""Two wanted parts so near are fetched with what lies between: a request costs more."""


def will_need(file: int, tiles: Sequence[Chunks], begin: int, end: int) -> None:
    """Announce the chunks of tiles `begin` to `end` of every dataset, in the order of the file.

    Args:
        file: descriptor of the HDF5 file.
        tiles: the chunks of each dataset, by number within the shard.
    """
    if not tiles or begin >= end or not hasattr(os, "posix_fadvise"):
        return
    offset = np.concatenate([chunks.offset[begin:end] for chunks in tiles])
    size = np.concatenate([chunks.size[begin:end] for chunks in tiles])
    order = np.argsort(offset)[np.count_nonzero(offset < 0) :]
    start, stop = offset[order], np.maximum.accumulate((offset + size)[order])
    if len(start) == 0:
        return
    first = np.flatnonzero(np.append(True, start[1:] > stop[:-1] + _JOIN_BYTES))
    last = np.append(first[1:] - 1, len(start) - 1)
    for left, right in zip(start[first].tolist(), stop[last].tolist(), strict=True):
        os.posix_fadvise(file, left, right - left, os.POSIX_FADV_WILLNEED)
