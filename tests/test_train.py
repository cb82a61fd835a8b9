"""The start of `mmae train` with a single rank: bad input is refused before seconds of imports."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.commands import run_command

LATE = """
import sys
from mmae.train import main
status = main(sys.argv[1:])
assert "torch" not in sys.modules, "torch was imported"
sys.exit(status)
"""


@pytest.mark.process
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--config", "absent"], "absent"),
        (["--config", "debug", "train.max_steps=often"], "train.max_steps"),
        (["--config", "debug", "data.shards=absent"], "absent: no such folder"),
    ],
)
def test_bad_input_is_refused_before_torch_is_imported(words: list[str], said: str, tmp_path: Path) -> None:
    done = run_command(sys.executable, "-c", LATE, *words, cwd=tmp_path)
    assert done.status == 2, done.err
    assert said in done.err
    assert not list(tmp_path.iterdir())
