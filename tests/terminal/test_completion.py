"""Completion in shells."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from mmae.cli import COMMANDS, main
from mmae.terminal.completion import fish_script, zsh_script

ASK = """
{script}
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
        ("mmae ''", [*COMMANDS]),
        ("mmae --", ["--help", "--version"]),
        ("mmae completion ''", ["bash", "zsh", "fish"]),
        ("mmae report runs/a --out ''", []),
        ("mmae train --loc", []),
        ("mmae reconstruct --wo", ["--worst"]),
        ("mmae config sh", ["show"]),
        ("mmae config show --ch", ["--changed"]),
        ("mmae status run --js", ["--json"]),
        ("mmae nonsense --x", []),
    ],
)
def test_bash_offers_what_may_follow(script: str, typed: str, offered: list[str]) -> None:
    program = ASK.format(script=script, words=typed, at=len(typed.split()) - 1)
    assert sorted(asked("bash", "-uc", program)) == sorted(offered)


def asked(shell: str, *words: str) -> list[str]:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run([shell, *words], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout.split()


WORDS = {
    (): ["embed", "bench"], ("embed",): ["--shards", "tiles"], ("bench",): ["embed", "--help"],
    ("bench", "embed"): ["--size", "--shape"],
}  # fmt: skip


@pytest.mark.process
def test_zsh_understands_its_script() -> None:
    # Functions for bash run so in zsh.
    program = ASK.format(script=f"{zsh_script(WORDS)}\nemulate sh", words="mmae bench embed --s", at=3)
    assert asked("zsh", "-fc", program) == ["--size", "--shape"]


@pytest.mark.process
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("mmae ", ["bench", "embed"]),
        ("mmae bench embed --s", ["--size", "--shape"]),
        ("mmae embed x --s", ["--shards"]),
    ],
)
def test_fish_offers_what_may_follow(typed: str, offered: list[str], tmp_path: Path) -> None:
    (tmp_path / "mmae.fish").write_text(fish_script(WORDS))
    program = f"cd {tmp_path}; source mmae.fish; complete -C '{typed}'"
    assert sorted(asked("fish", "--no-config", "-c", program)) == sorted(offered)


def test_other_shells_are_refused() -> None:
    assert main(["completion", "tcsh"]) == 2
