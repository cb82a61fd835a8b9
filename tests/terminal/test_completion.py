"""Completion in shells."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from mmae.cli import COMMANDS, main
from mmae.terminal.completion import fish_script

ASK = """
source /dev/stdin <<'SCRIPT'
{script}
SCRIPT
COMP_WORDS=({words}) COMP_CWORD={at}
_mmae
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module")
def script() -> str:
    from contextlib import redirect_stdout
    from io import StringIO

    said = StringIO()
    with redirect_stdout(said):
        assert main(["completion", "bash"]) == 0
    return said.getvalue()


@pytest.mark.process
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("mmae rec", ["reconstruct"]),
        ("mmae ''", [*COMMANDS, "--help", "--version"]),
        ("mmae reconstruct --wo", ["--worst"]),
        ("mmae config sh", ["show"]),
        ("mmae config show --ch", ["--changed"]),
        ("mmae status run --js", ["--json"]),
        ("mmae nonsense --x", []),
    ],
)
def test_bash_offers_what_may_follow(script: str, typed: str, offered: list[str]) -> None:
    program = ASK.format(script=script, words=typed, at=len(typed.split()) - 1)
    done = subprocess.run(["bash", "-euc", program], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert sorted(done.stdout.split()) == sorted(offered)


def test_zsh_and_fish_have_scripts_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "zsh"]) == 0
    assert "bashcompinit" in capsys.readouterr().out
    assert "complete -c mmae -n __fish_use_subcommand -a 'a b'" in fish_script({(): ["a", "b"]})
    assert main(["completion", "tcsh"]) == 2
    if fish := shutil.which("fish"):
        subprocess.run(
            [fish, "--no-execute", "/dev/stdin"], input=fish_script({("a",): ["--b"]}), text=True, check=True
        )
