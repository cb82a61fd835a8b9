"""The run's folder that a training's words, or their recipe, name: `python -m mmae.launch.run_dir WORDS`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from mmae.config.recipe_arguments import recipe_of
from mmae.config.recipe_file import load_config
from mmae.config.schema import Config
from mmae.launch.entry import entry
from mmae.terminal.edge import Parser, parse
from mmae.train import add_arguments


def run_dir(words: Sequence[str]) -> Path:
    """`run.dir` of the training that the words describe.

    Raises:
        InputError: they describe none.
    """
    return Path(training_config(words).run.dir)


def training_config(words: Sequence[str]) -> Config:
    """The training that the words describe.

    Raises:
        InputError: they describe none.
    """
    parser = Parser(prog="mmae train", add_help=False)
    add_arguments(parser)
    args = parse(parser, words)
    return load_config(*recipe_of(args), args.trust)


@entry
def main(*words: str) -> int:
    print(run_dir(words))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
