"""What the words given to a launcher ask it to start: a training, or another program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mmae.config.recipe_arguments import recipe_of
from mmae.config.recipe_file import load_config
from mmae.config.schema import Config
from mmae.errors import InputError
from mmae.terminal.edge import Parser, parse
from mmae.train import add_arguments

MODULE: Final = "--module"


@dataclass(frozen=True)
class Program:
    """What each rank runs.

    Attributes:
        verbose: whether DeepSpeed's own messages are shown.
        run: the run's folder; None for a program that has none, which is ended instead of asked to stop.
    """

    module: str
    words: list[str]
    verbose: bool
    run: Path | None


def program_of(words: Sequence[str]) -> Program:
    """The program that the words behind a launcher's own ask for: `--module MODULE WORDS`, or a training.

    Raises:
        InputError: no module is named, or the words do not describe a training.
    """
    if list(words[:1]) == [MODULE]:
        if len(words) < 2:
            raise InputError(f"{MODULE} needs a module, as python -m does")
        return Program(words[1], list(words[2:]), verbose=False, run=None)
    config = training_config(words)
    return Program("mmae.train", list(words), config.log.verbose, Path(config.run.dir))


def training_config(words: Sequence[str]) -> Config:
    """The training that the words describe.

    Raises:
        InputError: they do not describe a training.
    """
    parser = Parser(prog="mmae train", add_help=False)
    add_arguments(parser)
    args = parse(parser, words)
    return load_config(*recipe_of(args), args.trust)
