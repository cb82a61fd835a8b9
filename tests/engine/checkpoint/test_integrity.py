"""A damaged checkpoint is found out, with what is wrong, and the newest good one is taken."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from mmae.engine.checkpoint.integrity import CheckpointInfo, look_at, newest_good, problem_of
from mmae.engine.checkpoint.manifest import MANIFEST
from mmae.run.layout import STATE
from tests.support.checkpoint_files import WEIGHTS, save_checkpoint, state_of


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return save_checkpoint(tmp_path, 3)


def test_a_whole_checkpoint_has_no_problem(checkpoint: Path) -> None:
    found = look_at(checkpoint)
    assert isinstance(found, CheckpointInfo)
    assert found.state == state_of(3)
    assert found.files is not None
    assert WEIGHTS in found.files
    assert problem_of(checkpoint) is None


def swap(checkpoint: Path) -> None:
    (checkpoint / WEIGHTS).write_text((checkpoint / WEIGHTS).read_text().swapcase())


DAMAGE: list[tuple[Callable[[Path], object], str]] = [
    (lambda path: (path / WEIGHTS).unlink(), f"{WEIGHTS} is missing"),
    (lambda path: (path / WEIGHTS).write_text("short"), "has 5 bytes"),
    (swap, "its hash differs"),
    (lambda path: (path / "more.pt").touch(), f"more.pt is not in {MANIFEST}"),
    (lambda path: (path / MANIFEST).unlink(), f"{MANIFEST} is missing"),
    (lambda path: (path / MANIFEST).write_text("{}"), f"{MANIFEST}: "),
    (lambda path: (path / STATE).unlink(), f"{STATE} is missing"),
]


@pytest.mark.parametrize(("damage", "words"), DAMAGE)
def test_every_damage_is_named(checkpoint: Path, damage: Callable[[Path], object], words: str) -> None:
    damage(checkpoint)
    assert words in (problem_of(checkpoint) or "")


def test_a_checkpoint_without_a_manifest_is_taken_as_it_is(checkpoint: Path) -> None:
    (checkpoint / MANIFEST).unlink()
    (checkpoint / STATE).write_text(json.dumps({**asdict(state_of(3)), "format": 1}))
    found = look_at(checkpoint)
    assert isinstance(found, CheckpointInfo)
    assert found.files is None
    assert problem_of(checkpoint) is None


def test_the_newest_good_one_is_taken_and_damaged_ones_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in (3, 6, 9):
        save_checkpoint(tmp_path, step)
    swap(tmp_path / "global_step9")
    assert newest_good(tmp_path, trust=False) == tmp_path / "global_step6"
    assert "global_step9 is damaged: " in capsys.readouterr().err
    assert (tmp_path / "global_step9").is_dir()


def test_without_a_good_checkpoint_none_is_taken(tmp_path: Path) -> None:
    assert newest_good(tmp_path, trust=False) is None
