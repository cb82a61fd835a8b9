"""Scripts that complete commands and options in a shell."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

Words = Mapping[tuple[str, ...], Sequence[str]]
"""The words of a command line before the cursor, without the program -> the words that may follow them."""

_BASH: Final = """\
# mmae: completion for bash. Add to ~/.bashrc:  eval "$(mmae completion bash)"
_mmae() {
  local words=("${COMP_WORDS[@]:1:COMP_CWORD-1}") current=${COMP_WORDS[COMP_CWORD]} found
  case "${words[*]:0:2}" in
CASES
    *) case "${words[0]-}" in
FIRST
      *) found=() ;;
    esac ;;
  esac
  COMPREPLY=($(compgen -W "${found[*]}" -- "$current"))
}
complete -o default -F _mmae mmae
"""
_ZSH: Final = """\
# mmae: completion for zsh. Add to ~/.zshrc:  eval "$(mmae completion zsh)"
autoload -U +X bashcompinit && bashcompinit
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=list(SHELLS), help="the shell that the script is for")


def bash_script(words: Words) -> str:
    """A script for bash. Where no word of ours fits, bash completes names of files."""
    pairs: dict[tuple[str, ...], Sequence[str]] = {before: after for before, after in words.items() if len(before) == 2}
    firsts: dict[tuple[str, ...], Sequence[str]] = {before: after for before, after in words.items() if len(before) < 2}
    return _BASH.replace("CASES", _cases(pairs, "    ")).replace("FIRST", _cases(firsts, "      "))


def zsh_script(words: Words) -> str:
    """A script for zsh, which understands bash's way."""
    return _ZSH + bash_script(words)


def fish_script(words: Words) -> str:
    """A script for fish."""
    lines = ["# mmae: completion for fish. Save as ~/.config/fish/completions/mmae.fish"]
    for before, after in words.items():
        condition = (
            " and ".join(f"__fish_seen_subcommand_from {shlex.quote(word)}" for word in before)
            if before
            else "__fish_use_subcommand"
        )
        lines.append(f"complete -c mmae -n {shlex.quote(condition)} -a {shlex.quote(' '.join(after))}")
    return "\n".join(lines) + "\n"


SHELLS: Final = MappingProxyType({"bash": bash_script, "zsh": zsh_script, "fish": fish_script})


def _cases(words: Words, indent: str) -> str:
    lines = []
    for before, after in words.items():
        pattern = shlex.quote(" ".join(before)) if before else "''"
        lines.append(f"{indent}{pattern}) found=({' '.join(map(shlex.quote, after))}) ;;")
    return "\n".join(lines)
