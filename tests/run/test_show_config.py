"""`mmae config show`: values and where they come from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmae.cli import main
from tests.support.reported_run import write_run


def test_every_key_has_its_origin(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "show", "mini", "train.seed=4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["train.seed"] == {"value": 4, "origin": "command line"}
    assert found["model.size"]["value"] == "tiny"
    assert found["model.size"]["origin"].endswith("mini.yaml")
    assert found["model.patch_size"] == {"value": 8, "origin": "default"}


def test_a_run_is_shown_by_its_folder_without_secrets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", model__size="nano", data__shards="https://me:secret@host/shards")
    assert main(["config", "show", str(run), "--changed"]) == 0
    out = capsys.readouterr().out
    assert '* model.size   "nano"' in out
    assert "secret" not in out
    assert "train.seed" not in out
    assert out.splitlines()[0] == f"# * of {run}/config.yaml   ! of the command line   others are defaults"


def test_unknown_names_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "show", "vit_x"]) == 2
    assert main(["config", "show", "mini", "train.sed=4"]) == 2
    assert main(["config", "show"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 3
