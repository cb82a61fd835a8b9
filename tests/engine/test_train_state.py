"""Which checkpoint is taken, and which is refused."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest

from mmae.engine.train_state import LATEST, STATE, TrainState, check_owner, latest, read_state
from mmae.errors import InputError

STATE_6 = TrainState(6, 96, 2, 1, "bf16", "abc", 1, {"mmae": "0.1.0"})


def write(checkpoints: Path, name: str, pointer: str | None = None) -> Path:
    folder = checkpoints / name
    folder.mkdir(parents=True)
    (folder / STATE).write_text(json.dumps(asdict(STATE_6)))
    (checkpoints / LATEST).write_text(pointer or name)
    return folder


def test_no_checkpoint_yet(tmp_path: Path) -> None:
    assert latest(tmp_path) is None
    assert latest(tmp_path / "nowhere") is None


def test_the_pointer_decides(tmp_path: Path) -> None:
    write(tmp_path, "global_step12")
    folder = write(tmp_path, "global_step6")
    assert latest(tmp_path) == folder
    assert read_state(folder) == STATE_6


@pytest.mark.parametrize(
    "pointer", ["global_step99", "../../etc", "/etc/passwd", "", ".saving-global_step6", "global_step"]
)
def test_a_pointer_to_nothing_or_elsewhere_is_refused(tmp_path: Path, pointer: str) -> None:
    write(tmp_path, "global_step6")
    (tmp_path / LATEST).write_text(pointer)
    with pytest.raises(InputError, match="write the name of one of global_step6"):
        latest(tmp_path)


@pytest.mark.parametrize("text", ["", "{}", '{"step": 1, "colour": "red"}', "[]"])
def test_a_damaged_state_is_named(tmp_path: Path, text: str) -> None:
    folder = write(tmp_path, "global_step6")
    (folder / STATE).write_text(text)
    with pytest.raises(InputError, match=r"state\.json"):
        read_state(folder)


def test_only_what_is_ours_is_unpickled(tmp_path: Path) -> None:
    folder = write(tmp_path, "global_step6")
    weights = folder / "mp_rank_00_model_states.pt"
    weights.touch()
    check_owner(folder, trust=False)
    weights.chmod(0o666)
    with pytest.raises(InputError, match="--trust"):
        check_owner(folder, trust=False)
    check_owner(folder, trust=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_files_of_another_user_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, "global_step6")
    os.chown(folder / STATE, 12345, 12345)
    with pytest.raises(InputError, match="belongs to another user"):
        check_owner(folder, trust=False)
