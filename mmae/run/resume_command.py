"""The command that goes on with a run that was stopped: that of its start, without what was for this one alone."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterable, Iterator
from typing import Final

from mmae.addresses import hide_in_command

_SHELL_WORD: Final = re.compile(
    r"""(?: \$'(?:\\.|[^'\\])*' | '[^']*' | "(?:\\.|[^"\\])*" | \\. | [^\s'"\\] )+""", re.VERBOSE | re.DOTALL
)
_SHORTEST: Final = len("--r")
"""Options may be shortened; of ours only one begins with this letter."""


def go_on_command(world: int, keep_resume: bool = False) -> str:
    """A line for a shell.

    A launcher says in `MMAE_COMMAND` how it was called; without one the words of this process tell.

    Args:
        world: ranks.
        keep_resume: the run has no checkpoint of its own yet: what `--resume` says is where it goes on from.
    """
    # Followed again, --fresh would set aside what was just saved, and --resume would go back.
    once = {"--fresh": 0, "--local_rank": 1, "--local-rank": 1} | ({} if keep_resume else {"--resume": 1})
    told = os.environ.get("MMAE_COMMAND")
    if told:
        # As the shell's words stand there: quoted otherwise, an assignment in front would be none.
        command = " ".join(without_options([match[0] for match in _SHELL_WORD.finditer(told)], once))
    else:
        command = shlex.join(_own_words(list(without_options(sys.argv[1:], once)), world))
    # Passwords in addresses are not for logs.
    return hide_in_command(command)


def without_options(words: Iterable[str], options: dict[str, int]) -> Iterator[str]:
    """The words of a command line without some options.

    Args:
        options: how many words each takes, which may follow it or be joined to it by `=`.
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


def _own_words(words: list[str], world: int) -> list[str]:
    if words[:1] == ["train"]:
        # `mmae train`, which starts no ranks: those of several were started by a launcher.
        words = words[1:]
        if world == 1:
            return ["mmae", "train", *words]
    return ["deepspeed", "--num_gpus", str(world), "--module", "mmae.train", *words]
