"""The command that resumes a stopped run: the command of its start, without the options for that start alone."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterable, Iterator
from types import MappingProxyType
from typing import Final

from mmae.addresses import hide_in_command

TRAIN: Final = "mmae.train"
PROGRAMS: Final = MappingProxyType({TRAIN: "train", "mmae.finetune.command": "finetune"})
"""Module that launchers start -> the command of `mmae` that starts it as the only rank."""
_SHELL_WORD: Final = re.compile(
    r"""(?: \$'(?:\\.|[^'\\])*' | '[^']*' | "(?:\\.|[^"\\])*" | \\. | [^\s'"\\] )+""", re.VERBOSE | re.DOTALL
)
_SHORTEST: Final = len("--r")
"""Options may be shortened; only one of ours begins with this letter."""


def go_on_command(world: int, keep_resume: bool = False, module: str = TRAIN) -> str:
    """The command as a line for a shell.

    It comes from `MMAE_COMMAND`, which our launchers set, or else from the arguments of this process.

    Args:
        world: number of ranks.
        keep_resume: keep `--resume`, because the run has no checkpoint of its own yet.
        module: what launchers start, one of `PROGRAMS`.
    """
    # A second time, --fresh would archive what was just saved, and --resume would go back.
    once = {"--fresh": 0, "--local_rank": 1, "--local-rank": 1} | ({} if keep_resume else {"--resume": 1})
    told = os.environ.get("MMAE_COMMAND")
    if told:
        # The words keep their quotes: with other quotes, the shell would not see an assignment in front.
        command = " ".join(without_options([match[0] for match in _SHELL_WORD.finditer(told)], once))
    else:
        command = shlex.join(_own_words(list(without_options(sys.argv[1:], once)), world, module))
    # Passwords in addresses must not reach a log.
    return hide_in_command(command)


def without_options(words: Iterable[str], options: dict[str, int]) -> Iterator[str]:
    """The words of a command line without some options.

    Args:
        options: number of values of each option. Values follow the option, or are joined to it by `=`.
    """
    left = 0
    for word in words:
        if left:
            left -= 1
            continue
        name, joined, _ = word.partition("=")
        option = next((each for each in options if len(name) >= _SHORTEST and each.startswith(name)), None)
        if option is None:
            yield word
        elif not joined:
            left = options[option]


def _own_words(words: list[str], world: int, module: str) -> list[str]:
    command = PROGRAMS[module]
    if words[:1] == [command]:
        # `mmae train` starts no ranks itself: several ranks were started by a launcher.
        words = words[1:]
        if world == 1:
            return ["mmae", command, *words]
    return ["deepspeed", "--num_gpus", str(world), "--module", module, *words]
