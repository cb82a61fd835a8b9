"""A FIFO where a command's file should be: one line at once, where opening it would wait for ever."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from data_tools.synth.command import synthesise
from mmae.cli import main
from mmae.config.schema import Config, ModelConfig
from mmae.run.folder import RunFolder

SET = "set"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a data set and a run in it."""
    monkeypatch.chdir(tmp_path)
    synthesise(tmp_path / SET, 16, 8)
    RunFolder(tmp_path / "run").write_configs(Config(model=ModelConfig(size="nano")), {}, {})
    (tmp_path / "checkpoint.pth").write_bytes(b"x")
    (tmp_path / "shards").mkdir()
    return tmp_path


CASES = {
    "set/set.h5": ("repack", "set", "out"),
    "alone.h5": ("repack", "alone.h5", "out"),
    "set/set_splits.json": ("repack", "set", "out"),
    "set/set_tile_info.json": ("repack", "set", "out"),
    "set/set_band_stats.json": ("repack", "set", "out"),
    "shards/index.json": ("stats", "shards"),
    "model/config.json": ("export", "model", "out"),
    "run/config.yaml": ("export", "run", "out"),
    "run/log.jsonl": ("status", "run"),
    "recipe.yaml": ("plan", "recipe.yaml", "--gpus", "1", "--gpu-memory", "80GB"),
    "published.pth": ("import-published", "published.pth", "out"),
    "stats.json": ("import-published", "checkpoint.pth", "out", "--band-stats", "stats.json"),
    "hostfile": ("doctor", "--hostfile", "hostfile"),
}


@pytest.mark.parametrize(("name", "words"), CASES.items(), ids=CASES)
def test_a_fifo_is_one_line(name: str, words: tuple[str, ...], place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = place / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    assert main(list(words)) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("mmae: error: ")
    assert not (place / "out").exists()
