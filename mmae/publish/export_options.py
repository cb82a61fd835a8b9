"""Options that several formats of `mmae export` share, and how their words are read."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from mmae.disk.files import check_new_file, check_new_folder
from mmae.errors import InputError
from mmae.modalities import S2_LEVELS

_ALL: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "--modality": {"metavar": "M", "help": "the image modality to export"},
        "--bands": {
            "metavar": "B2,B3,...",
            "help": "instead of --modality: the channels of an image, of one or several modalities",
        },
        "--modalities": {"metavar": "M,M,...", "help": "the inputs to export; all inputs of the model if not said"},
        "--level": {"choices": S2_LEVELS, "help": "the Sentinel-2 level whose statistics to write"},
        "--image-size": {
            "metavar": "SIDE|HxW",
            "help": "pixels of an image, such as 56 or 64x120; the model's input_size if not said",
        },
    }
)


def options(flags: Iterable[str]) -> Mapping[str, Mapping[str, Any]]:
    """The arguments of these flags, as `mmae.publish.export_format` asks for them."""
    return MappingProxyType({flag: _ALL[flag] for flag in flags})


def check_words(args: argparse.Namespace) -> None:
    """Refuse words of shared options that cannot be read.

    Raises:
        InputError: one of them.
    """
    listed("--bands", args.bands)
    listed("--modalities", args.modalities)
    image_size(args.image_size)


def check_folder(out: Path, args: argparse.Namespace) -> None:
    """The `check` of formats that write a folder: refuse unreadable words, and a folder that holds something.

    Raises:
        InputError: one of these.
    """
    check_words(args)
    check_new_folder(out)


def listed(flag: str, words: str | None) -> list[str] | None:
    """The words of `a,b,c`; None where the user did not give the flag.

    Raises:
        InputError: a word is empty.
    """
    if words is None:
        return None
    found = [word.strip() for word in words.split(",")]
    if not all(found):
        raise InputError(f"{flag} {words!r}: give names with commas between them")
    return found


def new_file(out: Path, words: str) -> None:
    """Refuse a file that could not be written, and words that name a folder, where a format writes one file.

    Args:
        out: the file.
        words: it as the user wrote it: a path forgets a slash at its end.

    Raises:
        InputError: one of these.
    """
    if os.path.basename(words) in {"", os.curdir, os.pardir}:
        raise InputError(f"{words} names a folder, and this format writes one file: say the file's name")
    check_new_file(out)


def image_size(words: str | None) -> tuple[int, int] | None:
    """Height and width of `56` or `64x120`; None where the user did not give it.

    Raises:
        InputError: it is neither.
    """
    if words is None:
        return None
    sides = words.split("x")
    if len(sides) > 2 or not all(side.isascii() and side.isdigit() and 0 < int(side) < 1 << 16 for side in sides):
        raise InputError(f"--image-size {words}: give a side (56), or height and width (64x120), in pixels")
    return int(sides[0]), int(sides[-1])
