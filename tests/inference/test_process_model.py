from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmae.inference.process_model import model_hash, model_name
from mmae.model.saved.saved_config import CONFIG_NAME
from tests.support.scenes import save_scene_model


def test_other_band_statistics_make_another_model(tmp_path: Path) -> None:
    model = save_scene_model(tmp_path / "model")
    before = model_hash(str(model))
    assert model_hash(str(model)) == before
    path = model / CONFIG_NAME
    told = json.loads(path.read_text())
    told["band_stats"]["aster"]["mean"][0] += 1
    path.write_text(json.dumps(told))
    assert model_hash(str(model)) != before


def test_a_model_has_a_name_wherever_the_command_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    assert [model_name(model) for model in (".", "../mine/", str(tmp_path / "mine"), "owner/mine")] == ["mine"] * 4
