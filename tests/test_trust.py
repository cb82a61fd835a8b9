"""Runs and models of other users: every command that reads one refuses it, and runs no command that a file names."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import yaml

import mmae
from mmae.cli import main
from mmae.config.recipe_file import build_config, load_config
from mmae.config.schema import ModelConfig
from mmae.data.shards.index_json import DatasetInfo
from mmae.errors import InputError
from mmae.model.mmae import MultiMAE
from mmae.model.saved.saved_config import read_model_config
from mmae.model.saved.saved_model import save_model
from mmae.run.folder import RunFolder
from mmae.run.spec import make_run_spec
from tests.support.published_case import options, published_model, save_published
from tests.support.small_model import SMALL
from tests.support.tiny_sets import STATS, write_set

OTHER = 12345
MODEL = {"in_domains": ["rgb", "depth"], "out_domains": ["rgb"], "input_size": 16, "num_encoded_tokens": 3}
SMALL_MODEL = ModelConfig(size="nano", decoder_dim=16, decoder_num_heads=2, decoder_depth=1)
root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")

READERS = [
    ["status", "run"],
    ["export", "run", "out"],
    ["reconstruct", "run"],
    ["baseline", "run"],
    ["baseline", "run", "--hide", "depth"],
    ["doctor", "--run", "run"],
    ["plan", "run/config.yaml", "--gpus", "1", "--gpu-memory", "80GB"],
    ["train", "--config", "run/config.yaml"],
    ["train", "--config", "debug", "data.shards=shards", "run.dir=run", *SMALL],
    ["train", "--config", "debug", "--resume", "run", "data.shards=shards", "run.dir=new", *SMALL],
    ["train", "--config", "debug", "--resume", "run/checkpoints/global_step3", "data.shards=shards", "run.dir=new"],
]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run in the folder `run` beside its `shards`."""
    infos = {name: DatasetInfo(np.dtype(kind), (bands, 16, 16))
             for name, kind, bands in (("sentinel2", "<u2", 13), ("aster", "<i2", 2))}  # fmt: skip
    write_set(tmp_path / "shards", {"train": list(range(20)), "val": list(range(20, 29))}, datasets=infos)
    config = build_config(
        {"data.shards": str(tmp_path / "shards"), **{f"model.{key}": value for key, value in MODEL.items()}}, "test"
    )
    folder = RunFolder(tmp_path / "run")
    folder.write_configs(config, {"zero_optimization": {"stage": 1}, "bf16": {"enabled": True}}, dict(STATS))
    folder.log_file.write_text(json.dumps({"kind": "start", "time": 0, "step": 0}) + "\n")
    checkpoint = folder.checkpoints / "global_step3"
    checkpoint.mkdir(parents=True)
    (checkpoint / "state.json").touch()
    monkeypatch.chdir(tmp_path)
    return folder.path


def says_pipe(run: Path, canary: Path) -> str:
    """Have a run's recipe name a command that leaves a file."""
    command = f"pipe:touch {canary}; cat {run.parent / 'shards'}/{{}}"
    file = run / "config.yaml"
    flat = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**flat, "data.shards": command, "data.cache_dir": str(run.parent / "cache")}))
    return command


@root
@pytest.mark.parametrize("words", READERS, ids=lambda words: " ".join(words[:4]))
@pytest.mark.parametrize("of_another", ["", "config.yaml", "checkpoints"])
def test_every_command_refuses_another_user_s_run(
    run: Path, words: list[str], of_another: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if of_another == "checkpoints" and "run/config.yaml" in words:
        pytest.skip("reads the recipe only")
    canary = run.parent / "canary"
    says_pipe(run, canary)
    os.chown(run / of_another, OTHER, OTHER)
    assert main(words) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "belongs to another user (12345)" in said[0]
    assert "--trust" in said[0]
    assert not canary.exists()
    assert not (run.parent / "new").exists()
    assert not (run.parent / "out").exists()


@pytest.mark.process
def test_a_run_of_one_s_own_needs_no_trust(run: Path) -> None:
    assert main(["baseline", "run"]) == 0
    assert main(["status", "run"]) in {0, 1}
    assert main(["doctor", "--run", str(run)]) in {0, 1}


@pytest.mark.process
@root
def test_a_trusted_run_is_read(run: Path) -> None:
    os.chown(run / "config.yaml", OTHER, OTHER)
    assert main(["baseline", "run", "--trust"]) == 0
    assert main(["status", "run", "--trust"]) in {0, 1}
    assert main(["doctor", "--run", str(run), "--trust"]) in {0, 1}


@pytest.mark.process
def test_a_command_that_a_run_names_is_run_when_it_is_trusted_only(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    canary = run.parent / "canary"
    says_pipe(run, canary)
    assert main(["baseline", "run"]) == 2
    assert "data.shards: pipe:touch ***: " in capsys.readouterr().err
    assert main(["baseline", "run", "--shards", str(run.parent / "shards")]) == 0
    assert not canary.exists()
    assert main(["baseline", "run", "--trust"]) == 0
    assert canary.exists()


@pytest.mark.process
def test_a_command_that_a_recipe_names_is_run_when_it_is_trusted_only(run: Path) -> None:
    canary, recipe = run.parent / "canary", run.parent / "recipe.yaml"
    command = f"pipe:touch {canary}; cat {run.parent / 'shards'}/{{}}"
    recipe.write_text(yaml.safe_dump({"data": {"shards": [command], "cache_dir": "cache"}, "model": MODEL}))
    words = ["run.dir=new", "train.global_batch=4"]
    with pytest.raises(InputError, match=r"data\.shards: pipe:touch \*\*\*: .* on the command line"):
        make_run_spec(str(recipe), "zero1", words, 1)
    assert not canary.exists()
    # It is there to be seen, and to be replaced.
    assert load_config(str(recipe), []).data.locations == ("pipe:touch ***",)
    assert make_run_spec(str(recipe), "zero1", [*words, "data.shards=shards"], 1).config.data.shards == "shards"
    assert not canary.exists()
    make_run_spec(str(recipe), "zero1", words, 1, trust=True)
    assert canary.exists()


def test_several_sets_whose_commands_are_gone_are_no_contradiction(run: Path) -> None:
    commands = ["pipe:cat a/{}", "pipe:cat b/{}"]
    folder = RunFolder(run.parent / "other")
    folder.write_configs(build_config({"data.shards": commands}, "test"), {}, {})
    stored = folder.stored_config()
    assert stored is not None
    assert stored.data.locations == ("pipe:cat ***", "pipe:cat ***")


@root
@pytest.mark.parametrize("of_another", ["", "config.json", "model.safetensors"])
def test_a_model_of_another_user_is_refused(
    tmp_path: Path, of_another: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "model"
    save_model(folder, MultiMAE(SMALL_MODEL), {})
    assert mmae.load_model(folder)
    os.chown(folder / of_another, OTHER, OTHER)
    assert main(["export", str(folder), str(tmp_path / "out")]) == 2
    assert "belongs to another user (12345)" in capsys.readouterr().err
    with pytest.raises(InputError, match="trust=True"):
        mmae.load_model(folder)
    if of_another != "model.safetensors":
        with pytest.raises(InputError, match="trust=True"):
            read_model_config(folder)
    assert main(["export", str(folder), str(tmp_path / "out"), "--trust"]) == 0


@root
def test_a_published_file_of_another_user_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = published_model(SMALL_MODEL, SMALL_MODEL.variant)
    file = save_published(tmp_path / "checkpoint.pth", weights, options(SMALL_MODEL))
    os.chown(file, OTHER, OTHER)
    words = ["import-published", str(file), str(tmp_path / "model")]
    assert main(words) == 2
    assert "belongs to another user (12345)" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()
    assert main([*words, "--trust"]) == 0
