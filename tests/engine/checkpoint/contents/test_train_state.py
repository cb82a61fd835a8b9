"""The state file of a checkpoint, and which ones are refused."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from mmae.engine.checkpoint.contents.train_state import TrainState, read_state
from mmae.errors import InputError
from mmae.run.layout import STATE

STATE_6 = TrainState(6, 96, 2, 1, "bf16", "abc", 1, {"mmae": "0.1.0"})


def write(checkpoints: Path, name: str) -> Path:
    folder = checkpoints / name
    folder.mkdir(parents=True)
    (folder / STATE).write_text(json.dumps(asdict(STATE_6)))
    return folder


@pytest.mark.parametrize("text", ["", "{}", '{"step": 1, "colour": "red"}', "[]"])
def test_a_damaged_state_is_named(tmp_path: Path, text: str) -> None:
    folder = write(tmp_path, "global_step6")
    (folder / STATE).write_text(text)
    with pytest.raises(InputError, match=r"state\.json"):
        read_state(folder)


def test_a_state_comes_back_and_old_ones_have_no_format(tmp_path: Path) -> None:
    folder = write(tmp_path, "global_step6")
    assert read_state(folder) == STATE_6
    old = json.loads((folder / STATE).read_text())
    del old["format"]
    (folder / STATE).write_text(json.dumps(old))
    assert read_state(folder).format == 1
