"""Through DeepSpeed's own runner, pdsh (or what it does) and a shell, everything arrives as it was."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from mmae.errors import InputError
from mmae.launch.shell_quoting import exported, word

AWKWARD = (
    "plain", "", " ", "a b", "  both ends  ", "[1,0.5]", "*", "~", "$HOME", "`id`", "$(id)", 'say "x"', "it's",
    "a'b\"c", "back\\slash", '\\"', "a \\$b", "end\\", "end \\", "50%", "%n %h", "%%", "x?a=1&b=2", "a;b|c>d<e",
    "(a) {b}", "#no",
    "! !!", "a\tb", "pipe:cat {}", "mit Ä", "-", "--flag", "a=b c=d",
)  # fmt: skip

REMOTE = """#!{python}
import json, os, sys
print(json.dumps([{{name: os.environ.get(name) for name in os.environ if name.startswith("MMAE_TEST")}}, sys.argv[1:]]))
"""


def arrives(values: dict[str, str], words: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What a remote interpreter would see, by the code of the installed DeepSpeed."""
    from deepspeed.launcher.multinode_runner import PDSHRunner

    remote = folder / "python"
    remote.write_text(REMOTE.format(python=sys.executable))
    remote.chmod(0o755)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "executable", str(remote))
    args = SimpleNamespace(
        user_args=words, user_script="mmae.train", ssh_port=None, launcher_args="", master_addr="a", master_port=1,
        venv_script=None, no_python=False, module=True, no_local_rank=False, save_pid=False, enable_each_rank_log=None,
    )  # fmt: skip
    runner = PDSHRunner(args, "none")
    for name, value in values.items():
        runner.add_export(*f"{name}={exported(value)}\n".split("=", maxsplit=1))
    command, _, _ = runner.get_cmd({}, {"host": [0]})
    line = " ".join(command[command.index("host") + 1 :])
    line = re.sub("%[%n]", lambda found: {"%%": "%", "%n": "0"}[found[0]], line)
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True, env={"PATH": "/bin"})
    seen: list[object] = json.loads(done.stdout)
    return seen


@pytest.mark.process
def test_values_and_words_arrive_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {f"MMAE_TEST_{number}": value for number, value in enumerate(AWKWARD)}
    seen, words = arrives(values, [word(each) for each in AWKWARD], tmp_path, monkeypatch)
    assert seen == values
    assert isinstance(words, list)
    assert words[words.index("mmae.train") + 1 :] == list(AWKWARD)


@pytest.mark.process
def test_what_follows_a_value_is_expanded() -> None:
    text = f'export PATH="{exported("/my bin/$x", before=":$PATH")}"; echo "$PATH"'
    done = subprocess.run(["/bin/bash", "-c", text], capture_output=True, text=True, check=True, env={"PATH": "/old"})
    assert done.stdout == "/my bin/$x:/old\n"


def test_a_line_break_is_refused() -> None:
    with pytest.raises(InputError, match="line break"):
        exported(f"a{os.linesep}b")
