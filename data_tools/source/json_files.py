"""The JSON files of an MMEarth data set: read, checked, and made standard JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmae.disk.json_text import parse_json, standard_json
from mmae.disk.regular_file import read_regular
from mmae.errors import InputError
from mmae.modalities import S2_LEVELS
from mmae.terminal.plurals import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

TRAIN: Final = "train"
VAL: Final = "val"
S2_BANDS: Final = 13
_SPLIT_NAME: Final = re.compile(r"[A-Za-z0-9_]{1,40}")
_MAX_SPLITS: Final = 255
_MISSING: Final = "MMEarth puts it beside the .h5 file, download it too"


def read_json(path: Path, remedy: str = _MISSING) -> dict[str, Any]:
    """The object that a JSON file holds.

    Args:
        remedy: what to do if the file is missing, for the message.

    Raises:
        InputError: the file is missing, is not JSON, or does not hold an object.
    """
    try:
        content = parse_json(read_text(path, remedy))
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}): download it again") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a JSON object: download it again")
    return content


def read_text(path: Path, remedy: str = _MISSING) -> str:
    """A JSON file as text, UTF-8, -16 or -32.

    Args:
        remedy: what to do if the file is missing, for the message.

    Raises:
        InputError: the file is missing, cannot be read, or is not text.
    """
    try:
        content = read_regular(path)
        return content.decode(json.detect_encoding(content))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file: {remedy}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not JSON ({error}): download it again") from None


def read_band_stats(path: Path) -> dict[str, Any]:
    """Statistics a band, as standard JSON; what the file lacks can be computed.

    MMEarth's own tools write NaN for a level or band without data: null then, and no entry for a level without any
    number.

    Raises:
        InputError: Sentinel-2's mean or std for a level is there, but is not 13 numbers; or as `read_json`.
    """
    try:
        stats: dict[str, Any] = standard_json(read_json(path))
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}): download it again") from None
    for key in (f"sentinel2_{level}" for level in S2_LEVELS if f"sentinel2_{level}" in stats):
        entry = stats[key]
        for kind in ("mean", "std"):
            values = entry.get(kind) if isinstance(entry, dict) else None
            if not isinstance(values, list) or len(values) != S2_BANDS or not all(map(_number_or_null, values)):
                raise InputError(f"{path}: {key}.{kind} must be {S2_BANDS} numbers: download it again")
        if not any(mean is not None and std is not None for mean, std in zip(entry["mean"], entry["std"], strict=True)):
            del stats[key]
    return stats


def _number_or_null(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def read_splits(path: Path, rows: int) -> dict[str, NDArray[np.int64]]:
    """Split -> source rows, int64, in the file's order.

    Raises:
        InputError: a row out of range or in two places, a name that cannot be a file's, or an empty train.
    """
    splits: dict[str, NDArray[np.int64]] = {}
    for name, listed in read_json(path, f"{_MISSING}, or name another with --splits FILE").items():
        if not _SPLIT_NAME.fullmatch(name):
            raise InputError(f"{path}: {name!r} cannot be the name of a split: use letters, digits and _")
        if not isinstance(listed, list) or not all(type(row) is int for row in listed):
            raise InputError(f"{path}: split {name!r} is not a list of row numbers")
        if listed and not (min(listed) >= 0 and max(listed) < rows):
            wrong = next(row for row in listed if not 0 <= row < rows)
            raise InputError(f"{path}: split {name!r} names row {wrong}, the .h5 file has {counted(rows, 'row')}")
        splits[name] = np.array(listed, np.int64)
    if len(splits) > _MAX_SPLITS:
        raise InputError(f"{path}: {len(splits)} splits, at most {_MAX_SPLITS} can be stored")
    if len(splits.get(TRAIN, ())) == 0:
        raise InputError(f"{path}: split {TRAIN!r} is missing or empty: there would be nothing to train on")
    _check_disjoint(path, splits, rows)
    return splits


def _check_disjoint(path: Path, splits: Mapping[str, NDArray[np.int64]], rows: int) -> None:
    owner = np.full(rows, -1)
    for number, (name, listed) in enumerate(splits.items()):
        taken = listed[owner[listed] >= 0]
        if len(taken):
            other = list(splits)[owner[taken[0]]]
            raise InputError(f"{path}: row {taken[0]} is in split {other!r} and in {name!r}: remove it from one")
        owner[listed] = number
        if len(np.unique(listed)) != len(listed):
            raise InputError(f"{path}: split {name!r} names a row twice: remove it once")
