"""Options that several benches have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from mmae.errors import InputError, did_you_mean
from mmae.terminal.table import add_json_argument

if TYPE_CHECKING:
    import argparse

_TILES: Final = 20_000
_CODECS: Final = "small,fast"


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """SRC, `--tiles`, `--workers`, `--codec`, `--repeats`, `--scratch` and `--json`."""
    parser.add_argument(
        "src",
        metavar="SRC",
        type=Path,
        nargs="?",
        help="MMEarth's .h5 file or its folder (default: a synthetic set, which compresses differently)",
    )
    parser.add_argument(
        "--tiles",
        metavar="N",
        type=int,
        default=_TILES,
        help=f"repeat or cut the source to N tiles (default: {_TILES})",
    )
    parser.add_argument(
        "--workers", metavar="N", type=int, help="measure with 1 process and with N (default: one for each core)"
    )
    parser.add_argument("--codec", metavar="A,B", default=_CODECS, help=f"codecs of the shards (default: {_CODECS})")
    parser.add_argument("--repeats", metavar="N", type=int, default=3, help="take the median of N (default: 3)")
    parser.add_argument(
        "--scratch",
        metavar="DIR",
        type=Path,
        help="keep files there, and use those of an earlier run (default: a temporary folder, which is removed)",
    )
    add_json_argument(parser)


def codecs_of(args: argparse.Namespace) -> list[str]:
    """The requested codecs, each once.

    Raises:
        InputError: a codec is unknown.
    """
    from mmae.data.shards.codec import CODECS

    return words_of(args.codec, tuple(CODECS), "--codec")


def counts_of(args: argparse.Namespace) -> int:
    """The number of processes of the second measurement; the first has one process.

    Raises:
        InputError: a number of tiles, workers or repetitions is below one, there are too many workers, or not a tile
            for each of them.
    """
    from data_tools.workers.pool import processes

    for name in ("tiles", "repeats"):
        at_least_one(f"--{name}", getattr(args, name))
    count = processes(args.workers)
    if args.tiles < count:
        raise InputError(f"--tiles {args.tiles}: {count} processes read shards of their own: give at least {count}")
    return count


def at_least_one(option: str, value: int | None) -> None:
    """Raise InputError if an option's number is below 1. None means that the option is absent."""
    if value is not None and value < 1:
        raise InputError(f"{option} {value}: must be at least 1")


def numbers_of(text: str, option: str) -> list[int]:
    """The whole numbers of a comma-separated list, each once.

    Raises:
        InputError: the text is something else, or a number is below 1.
    """
    try:
        numbers = [int(word) for word in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise InputError(f"{option} {text}: give whole numbers of at least 1, with commas between them")
    return list(dict.fromkeys(numbers))


def words_of(text: str, known: tuple[str, ...], option: str) -> list[str]:
    """The words of a comma-separated list, each once.

    Raises:
        InputError: a word is not in `known`.
    """
    words = [word.strip() for word in text.split(",")]
    for word in words:
        if word not in known:
            raise InputError(f"{option} {text}: unknown {word!r}{did_you_mean(word, known)}")
    return list(dict.fromkeys(words))
