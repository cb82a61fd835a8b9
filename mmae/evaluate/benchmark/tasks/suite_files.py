"""Small files of a suite: JSON of strangers, whose names of samples become names of files only after a check."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmae.disk.json_text import parse_json
from mmae.disk.regular_file import read_regular_text
from mmae.errors import InputError

REMEDY = "the suite is not whole: download it again"


def read_json_file(path: Path) -> Any:
    """What a JSON file of a suite says.

    Raises:
        InputError: it is missing, or no JSON.
    """
    try:
        return parse_json(read_regular_text(path))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: {REMEDY}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}): {REMEDY}") from None


def check_folder(folder: Path, what: str) -> None:
    """Refuse a folder that is not there.

    Raises:
        InputError: the message says what it is to hold.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: {what} is to lie there: download it, or name another --data")


def is_plain_name(name: Any) -> bool:
    """Whether a text can only be the name of a file in a given folder."""
    return isinstance(name, str) and name not in {"", ".", ".."} and not any(sign in name for sign in "/\\\0")
