"""A renamed recipe key works under its old name, with one warning, wherever a key can be set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mmae.config import renamed_keys
from mmae.config.recipe_file import build_config, load_config, parse_overrides
from mmae.config.schema import resume_policy
from mmae.errors import InputError
from mmae.model.saved.saved_config import describe, read_model_config
from mmae.run.folder import RunFolder, recipe_text
from mmae.variants import VARIANTS

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _renamed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(renamed_keys, "RENAMED", {"train.batch": "train.global_batch", "optim.seed": "train.seed"})
    monkeypatch.delenv("RANK", raising=False)
    renamed_keys._warn.cache_clear()
    yield
    renamed_keys._warn.cache_clear()


def recipe(folder: Path, text: str) -> str:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return str(path)


def test_a_recipe_may_use_old_names(tmp_path: Path, capsys: Capture) -> None:
    path = recipe(tmp_path, "train:\n  batch: 24\noptim:\n  seed: 3\n")
    for _ in range(2):
        config = load_config(path, [])
        assert (config.train.global_batch, config.train.seed) == (24, 3)
    assert capsys.readouterr().err.splitlines() == [
        f"mmae: warning: {path}: 'train.batch' is now named 'train.global_batch': rename it before the next minor "
        "version",
        f"mmae: warning: {path}: 'optim.seed' is now named 'train.seed': rename it before the next minor version",
    ]


def test_an_override_may_use_an_old_name_and_wins_over_the_recipe(tmp_path: Path, capsys: Capture) -> None:
    assert parse_overrides(["train.batch=24"]) == {"train.global_batch": 24}
    assert "command line: 'train.batch' is now named" in capsys.readouterr().err
    old, new = recipe(tmp_path, "train:\n  batch: 24\n"), ["train.global_batch=48"]
    assert load_config(old, new).train.global_batch == 48
    assert load_config("debug", ["train.batch=48"]).train.global_batch == 48


def test_the_stored_recipe_of_a_run_may_hold_old_names(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    config = load_config("debug", ["train.seed=7"])
    folder.path.mkdir()
    text = recipe_text(config)
    assert "train.global_batch" in text
    folder.config_file.write_text(text.replace("train.global_batch", "train.batch"))
    stored = folder.stored_config()
    assert stored is not None
    assert (stored.train.global_batch, stored.train.seed) == (config.train.global_batch, 7)
    assert "train.global_batch" in recipe_text(stored)


def test_values_of_a_model_folder_may_have_old_names() -> None:
    assert build_config({"train.batch": 24}, "config.json").train.global_batch == 24


def test_an_old_and_a_new_name_together_are_refused(tmp_path: Path) -> None:
    both = "'train.batch' is the old name of 'train.global_batch', and both are set: remove 'train.batch'"
    path = recipe(tmp_path, "train:\n  batch: 24\n  global_batch: 24\n")
    with pytest.raises(InputError, match=f"{path}: {both}"):
        load_config(path, [])
    with pytest.raises(InputError, match=f"command line: {both}"):
        parse_overrides(["train.global_batch=24", "train.batch=24"])


def test_only_the_first_rank_warns(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("RANK", "1")
    assert parse_overrides(["train.batch=24"]) == {"train.global_batch": 24}
    assert capsys.readouterr().err == ""


def test_an_unknown_key_is_still_refused() -> None:
    with pytest.raises(InputError, match=r"unknown key 'optim\.sed'"):
        parse_overrides(["optim.sed=3"])


def test_the_table_names_keys_that_exist_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    known = resume_policy().keys()
    assert set(renamed_keys.RENAMED.values()) <= known
    assert not renamed_keys.RENAMED.keys() & known


def test_a_model_folder_may_hold_old_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renamed_keys, "RENAMED", {"model.width": "model.decoder_dim"})
    config = load_config("debug", []).model
    text = describe(config, VARIANTS[config.size], {}, {})
    (tmp_path / "config.json").write_text(text.replace('"decoder_dim"', '"width"'))
    assert read_model_config(tmp_path).config == config
