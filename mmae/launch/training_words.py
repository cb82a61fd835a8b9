"""The training that the words given to a launcher describe."""

from __future__ import annotations

from collections.abc import Sequence

from mmae.config.recipe_arguments import recipe_of
from mmae.config.recipe_file import load_config
from mmae.config.schema import Config
from mmae.terminal.edge import Parser, parse
from mmae.train import add_arguments


def training_config(words: Sequence[str]) -> Config:
    """The training that the words describe.

    Raises:
        InputError: they describe none.
    """
    parser = Parser(prog="mmae train", add_help=False)
    add_arguments(parser)
    args = parse(parser, words)
    return load_config(*recipe_of(args), args.trust)
