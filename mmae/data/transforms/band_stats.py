"""Band statistics from a user's file, checked and as standard JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmae.disk.json_text import parse_json, standard_json
from mmae.disk.regular_file import read_regular
from mmae.errors import InputError


def read_band_stats(path: Path) -> dict[str, Any]:
    """{entry: {mean, std, ...: one number a band}}, as `mmae stats` and MMEarth write it; null for what is not finite.

    Whether every modality has its entry is checked where the statistics are used.

    Raises:
        InputError: the file is missing, is not JSON, or holds something else.
    """
    try:
        stats = parse_json(read_regular(path))
        standard: dict[str, Any] = standard_json(stats)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): give data.band_stats a file") from None
    except ValueError:
        raise InputError(f"{path}: not JSON: give data.band_stats what mmae stats wrote") from None
    if not isinstance(stats, dict) or not stats:
        raise InputError(f"{path}: not an object with an entry a dataset: give data.band_stats what mmae stats wrote")
    for entry, numbers in stats.items():
        for kind in ("mean", "std"):
            listed = numbers.get(kind) if isinstance(numbers, dict) else None
            if not isinstance(listed, list) or not all(map(_number, listed)):
                raise InputError(f"{path}: {entry}.{kind} is not a list of numbers, one a band: compute it again")
            if kind == "std" and any(number is not None and number < 0 for number in listed):
                raise InputError(f"{path}: {entry}.std holds a negative number: compute it again")
    return standard


def _number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
