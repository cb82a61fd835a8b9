"""A run's folder: what may be written where, and what may change."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmae.config.recipe_file import build_config, load_config
from mmae.config.schema import Config, flatten
from mmae.disk.files import write_whole
from mmae.errors import InputError
from mmae.run.folder import RunFolder, changes_on_resume, open_run


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def test_no_folder_and_an_empty_folder_hold_no_run(folder: RunFolder) -> None:
    assert folder.stored_config() is None
    folder.path.mkdir()
    assert folder.stored_config() is None
    with pytest.raises(InputError, match="no run lives here"):
        open_run(str(folder.path))


def test_a_folder_with_something_else_is_refused(folder: RunFolder) -> None:
    folder.path.mkdir()
    (folder.path / "notes.txt").touch()
    with pytest.raises(InputError, match=r"choose another run\.dir"):
        folder.stored_config()


def test_a_config_comes_back_as_it_was_written(folder: RunFolder) -> None:
    said = {"model.alphas": [1, 2, 3, 4, 5, 6], "train.blr": 1e-5, "model.input_size": [56, 64], "run.dir": "/a #2"}
    config = build_config(said, "here")
    folder.write_configs(config, {"zero_optimization": {"stage": 1}}, {"aster": {"mean": [0.0]}})
    assert folder.stored_config() == config
    assert folder.stored_band_stats() == {"aster": {"mean": [0.0]}}
    assert not [path for path in folder.path.iterdir() if path.name.startswith(".")]


def test_paths_are_written_as_absolute_ones(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    places = {"data.keys": "k", "data.band_stats": "s.json", "data.cache_dir": "c", "model.init_from": "m"}
    said = {"data.shards": ["a", "https://host/b"], "run.dir": "../r", **places}
    monkeypatch.chdir(folder.path.parent)
    folder.write_configs(build_config(said, "here"), {}, {})
    monkeypatch.chdir("/")
    stored = flatten(folder.stored_config() or Config())
    here = folder.path.parent
    assert stored["data.shards"] == [str(here / "a"), "https://host/b"]
    assert stored["run.dir"] == str(here.parent / "r")
    assert {key: stored[key] for key in places} == {key: str(here / name) for key, name in places.items()}


def test_a_runs_own_recipe_is_a_recipe(folder: RunFolder) -> None:
    said = {"train.profile": "10:20", "train.opt_betas": [0.9, 0.999], "run.dir": "/no", "log.wandb_project": "010"}
    config = build_config(said, "here")
    folder.write_configs(config, {}, {})
    assert load_config(str(folder.config_file), []) == config
    assert load_config(str(folder.config_file), ["train.seed=3"]).train.seed == 3


def test_the_advised_override_can_be_pasted(folder: RunFolder) -> None:
    old = config(train__opt_betas=[0.9, 0.95], train__skip_grad_norm=1.0)
    with pytest.raises(InputError, match=r"add 'train.opt_betas=\[0.8,0.9\]' to the command line"):
        changes_on_resume(old, config(train__opt_betas=[0.8, 0.9], train__skip_grad_norm=1.0), {}, folder)
    with pytest.raises(InputError, match=r"add train.skip_grad_norm=null to the command line"):
        changes_on_resume(old, config(train__opt_betas=[0.9, 0.95]), {}, folder)


def test_a_damaged_stored_config_is_named(folder: RunFolder) -> None:
    folder.path.mkdir()
    folder.config_file.write_text("- no\n- mapping\n")
    with pytest.raises(InputError, match=r"config\.yaml"):
        folder.stored_config()


def config(**flat: object) -> Config:
    return build_config({key.replace("__", "."): value for key, value in flat.items()}, "test")


def test_free_keys_change_in_silence(folder: RunFolder) -> None:
    assert changes_on_resume(config(), config(train__stop_at=3, data__workers=7, log__every=1), {}, folder) == {}


def test_explicit_keys_change_only_on_the_command_line(folder: RunFolder) -> None:
    new = config(train__max_steps=50)
    with pytest.raises(InputError, match=r"add train\.max_steps=50 to the command line"):
        changes_on_resume(config(), new, {}, folder)
    said = {"train.max_steps": 50}
    assert changes_on_resume(config(), new, said, folder) == {"train.max_steps": (1000, 50)}


@pytest.mark.parametrize("key", ["model__size", "train__seed", "train__global_batch", "data__crop"])
def test_keys_that_define_the_run_never_change(folder: RunFolder, key: str) -> None:
    values = {"model__size": "tiny", "train__seed": 5, "train__global_batch": 8, "data__crop": "resize"}
    with pytest.raises(InputError, match="it cannot change on resume"):
        changes_on_resume(config(), config(**{key: values[key]}), {key.replace("__", "."): values[key]}, folder)


def test_other_tiles_need_a_run_of_their_own_and_are_said(folder: RunFolder) -> None:
    new, said = config(train__data_seed=5), {"train.data_seed": 5}
    with pytest.raises(InputError, match=r"add --resume CHECKPOINT and a new run\.dir"):
        changes_on_resume(config(), new, said, folder)
    with pytest.raises(InputError, match=r"add train\.data_seed=5 to the command line"):
        changes_on_resume(config(), new, {}, folder, leaves=True)
    assert changes_on_resume(config(), new, said, folder, leaves=True) == {"train.data_seed": (None, 5)}


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "latest"
    write_whole(path, "one")
    write_whole(path, "two")
    assert path.read_text() == "two"
    assert [entry.name for entry in tmp_path.iterdir()] == ["latest"]


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("https://me:word@host/set?token=1", "https://***@host/set?***"),
        (["/data/a b", "s3://key:word@bucket/set"], ["/data/a b", "s3://***@bucket/set"]),
        ("pipe:curl -u me:word https://host/{}", "pipe:curl ***"),
        (["pipe:tar {}", "pipe:cat a-word/{}", "pipe:cat word/{}"], ["pipe:tar ***", "pipe:cat ***", "pipe:cat ***"]),
        ("", ""),
    ],
)
def test_no_password_is_written(folder: RunFolder, said: object, written: object) -> None:
    folder.write_configs(build_config({"data.shards": said}, "here"), {}, {})
    assert "word" not in folder.config_file.read_text()
    assert flatten(folder.stored_config() or Config())["data.shards"] == written
