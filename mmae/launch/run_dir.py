"""The run's folder that a training's words, or their recipe, name: `python -m mmae.launch.run_dir WORDS`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mmae.config import Config, load_config
from mmae.errors import InputError
from mmae.launch.entry import entry
from mmae.train import add_arguments


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise InputError(message)


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
    parser = _Parser(prog="mmae train", add_help=False)
    add_arguments(parser)
    args = parser.parse_intermixed_args(list(words))
    return load_config(args.config, args.overrides)


@entry
def main(*words: str) -> int:
    print(run_dir(words))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
