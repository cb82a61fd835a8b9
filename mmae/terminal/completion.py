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
  local words=("${COMP_WORDS[@]:1:$((COMP_CWORD-1))}") current=${COMP_WORDS[COMP_CWORD]} found
  case "${words[*]:0:2}" in
CASES
    *) case "${words[0]-}" in
FIRST
      *) found=() ;;
    esac ;;
  esac
  COMPREPLY=($(compgen -W "${found[*]}" -- "$current"))
  # Options are offered to who types one, as by other programs: elsewhere a file may be meant.
  [[ $current == -* ]] || COMPREPLY=($(printf '%s\\n' "${COMPREPLY[@]}" | grep -v '^-'))
}
complete -o default -F _mmae mmae
"""
_ZSH: Final = """\
# mmae: completion for zsh. Add to ~/.zshrc:  eval "$(mmae completion zsh)"
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
autoload -U +X bashcompinit && bashcompinit
"""
_FISH: Final = """\
# mmae: completion for fish. Save as ~/.config/fish/completions/mmae.fish
function __mmae_begins
    set -l words (commandline -opc)
    set -e words[1]
    test (count $words) -ge (count $argv); or return 1
    set -l first $words[1..(count $argv)]
    test "$first" = "$argv"
end
function __mmae_is
    set -l words (commandline -opc)
    set -e words[1]
    test "$words" = "$argv"
end
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
    lines = []
    for before, after in words.items():
        # Where commands follow, no file does.
        leads = any(other[: len(before)] == before for other in words if len(other) > len(before))
        condition = " ".join(["__mmae_is" if leads else "__mmae_begins", *map(shlex.quote, before)])
        lines.append(
            f"complete -c mmae{' -f' if leads else ''} -n {shlex.quote(condition)} -a {shlex.quote(' '.join(after))}"
        )
    return _FISH + "\n".join(lines) + "\n"


SHELLS: Final = MappingProxyType({"bash": bash_script, "zsh": zsh_script, "fish": fish_script})


def _cases(words: Words, indent: str) -> str:
    lines = []
    for before, after in words.items():
        pattern = shlex.quote(" ".join(before)) if before else "''"
        lines.append(f"{indent}{pattern}) found=({' '.join(map(shlex.quote, after))}) ;;")
    return "\n".join(lines)
