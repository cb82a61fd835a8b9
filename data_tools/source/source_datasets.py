"""The datasets of an MMEarth file: which ones are packed, and why the others are not."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import h5py

from data_tools.source.metadata import METADATA
from mmae.data.shards.codec import DTYPES, MAX_NBYTES, MAX_NDIM
from mmae.data.shards.index_json import DatasetInfo
from mmae.errors import InputError, did_you_mean
from mmae.modalities import MODALITIES
from mmae.terminal.plurals import counted

_NAME: Final = re.compile(r"\w{1,80}", re.ASCII)
_MODEL_DATASETS: Final = tuple(dict.fromkeys(row.dataset for row in MODALITIES.values()))


@dataclass(frozen=True)
class Contents:
    """The content of the file, without its metadata.

    Attributes:
        known: datasets of numbers, text or records with one row a tile: stored dtype and shape of a row.
        others: name -> why it cannot be a dataset of tiles.
    """

    known: Mapping[str, DatasetInfo]
    others: Mapping[str, str]


def contents(path: Path, file: h5py.File, rows: int) -> Contents:
    """The content at the top of the file.

    Raises:
        InputError: a dataset of a modality does not have one row a tile.
    """
    known: dict[str, DatasetInfo] = {}
    others: dict[str, str] = {}
    for name in sorted(set(file) - {METADATA}):
        item = _item(file, name)
        if not isinstance(item, h5py.Dataset):
            others[name] = "its link leads nowhere" if item is None else f"it is a {type(item).__name__.lower()}"
        elif item.shape is None or item.shape[:1] != (rows,):
            if name in _MODEL_DATASETS:
                raise InputError(
                    f"{path}: {name!r} is {item.shape} but {METADATA!r} has {counted(rows, 'row')}: download it again"
                )
            others[name] = f"its shape is {item.shape}, not a row for each of {counted(rows, 'tile')}"
        else:
            try:
                known[name] = DatasetInfo(item.dtype.newbyteorder("<"), item.shape[1:])
            except TypeError:
                others[name] = "numpy has no such type"
    return Contents(known, others)


def _item(file: h5py.File, name: str) -> object:
    try:
        return file[name]
    except (KeyError, OSError, RuntimeError):
        return None


def choose(path: Path, found: Contents, asked: Sequence[str] | None) -> list[str]:
    """The datasets to pack, in stored order: the ones for training come first in a tile.

    Args:
        asked: names of datasets; None for all that can be stored.

    Raises:
        InputError: a name that is not there or cannot be stored, or nothing to pack.
    """
    storable = [name for name, info in found.known.items() if _fault(name, info) is None]
    for name in asked or ():
        if name not in found.known and name not in found.others:
            raise InputError(f"{path}: no dataset {name!r}{did_you_mean(name, storable)}")
        if why := _why_not(name, found):
            raise InputError(f"{path}: dataset {name!r} cannot be stored ({why}): leave it out")
    chosen = set(storable if asked is None else asked)
    if not chosen:
        raise InputError(f"{path}: no dataset to pack: name some of {', '.join(storable) or 'another file'}")
    return [*_first(chosen), *sorted(chosen - set(_first(chosen)))]


def left_out(found: Contents, packed: Iterable[str]) -> dict[str, str]:
    """Name -> reason, for everything in the file that is not packed."""
    rest = sorted({*found.known, *found.others} - set(packed))
    return {name: _why_not(name, found) or "not among --datasets" for name in rest}


def told(rest: Mapping[str, str]) -> Iterator[str]:
    """What `left_out` found, a line for each reason."""
    for why in dict.fromkeys(rest.values()):
        yield f"not packed: {', '.join(repr(name) for name in rest if rest[name] == why)}: {why}"


def _why_not(name: str, found: Contents) -> str | None:
    return found.others[name] if name in found.others else _fault(name, found.known[name])


def _fault(name: str, info: DatasetInfo) -> str | None:
    """Why a dataset cannot be stored exactly; None if it can."""
    if info.dtype not in DTYPES:
        return f"shards cannot hold numbers of type {info.dtype}"
    if not _NAME.fullmatch(name):
        return "its name is more than letters, digits and _, or longer than 80"
    if info.dtype.itemsize * math.prod(info.shape) > MAX_NBYTES or len(info.shape) > MAX_NDIM:
        return f"a row is {info.shape}, too large for a tile"
    return None


def _first(chosen: Iterable[str]) -> list[str]:
    return [name for name in _MODEL_DATASETS if name in set(chosen)]
