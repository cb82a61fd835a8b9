from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import mmae
from mmae.config.schema import ModelConfig
from mmae.errors import InputError
from mmae.model.masking import plan_from_ids
from mmae.model.mmae import MultiMAE
from mmae.model.saved.saved_config import read_model_config
from mmae.model.saved.saved_model import load_model, save_model
from mmae.variants import Variant
from tests.support.full_disk import REASON, files_up_to

MakeValues = Callable[[ModelConfig, int], dict[str, Tensor]]
STATS = {"aster": {"mean": [1.0, 2.0], "std": [3.0, 4.0]}}


@pytest.fixture
def model(config: ModelConfig, variant: Variant) -> MultiMAE:
    return MultiMAE(replace(config, init_from="somewhere", attention="short"), variant, seed=3)


@pytest.fixture
def folder(tmp_path: Path, model: MultiMAE) -> Path:
    save_model(tmp_path / "exported" / "model", model, STATS, {"step": 7})
    return tmp_path / "exported" / "model"


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "config.json"
    description = json.loads(path.read_text())
    change(description)
    path.write_text(json.dumps(description))


def test_round_trip(folder: Path, model: MultiMAE, make_values: MakeValues) -> None:
    loaded = mmae.load_model(folder)
    assert not loaded.training
    assert loaded.variant == model.variant
    assert loaded.config == replace(model.config, init_from=None, attention="torch")
    assert {tensor.device.type for tensor in (*loaded.parameters(), *loaded.buffers())} == {"cpu"}
    plan = plan_from_ids(torch.tensor([[0, 5, 9]]), model.config.num_tokens)
    values = make_values(model.config, 1)
    here, there = model.eval()(values, plan), loaded(values, plan)
    assert all(torch.equal(here.patches[name], there.patches[name]) for name in model.config.outputs)


def test_the_folder_holds_two_files_and_no_temporary(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
    assert {tensor.dtype for tensor in load_file(folder / "model.safetensors").values()} == {torch.float32}


def test_what_config_json_says(folder: Path) -> None:
    saved = read_model_config(folder)
    assert saved.band_stats == STATS
    assert saved.extra == {"step": 7}
    assert saved.mmae_version == mmae.__version__


def test_half_precision_is_saved_as_float32(tmp_path: Path, model: MultiMAE) -> None:
    save_model(tmp_path / "half", model.to(torch.bfloat16), STATS)
    loaded = load_model(tmp_path / "half")
    ours, theirs = model.state_dict(), loaded.state_dict()
    assert all(torch.equal(theirs[name], ours[name].float()) for name in ours)


def test_an_empty_folder_is_filled_and_a_full_one_left_alone(tmp_path: Path, model: MultiMAE) -> None:
    (tmp_path / "empty").mkdir()
    save_model(tmp_path / "empty", model, STATS)
    before = (tmp_path / "empty" / "config.json").stat().st_mtime_ns
    with pytest.raises(InputError, match="is not empty"):
        save_model(tmp_path / "empty", model, STATS)
    assert (tmp_path / "empty" / "config.json").stat().st_mtime_ns == before
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file"):
        save_model(tmp_path / "file", model, STATS)


def test_a_failed_save_leaves_nothing(tmp_path: Path, model: MultiMAE, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("mmae.model.saved.weights_file.save_file", full)
    with pytest.raises(InputError, match=r"model: cannot be written \(no space left on device\): make room"):
        save_model(tmp_path / "model", model, STATS)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, model: MultiMAE) -> None:
    with files_up_to(5000), pytest.raises(InputError, match=rf"model: cannot be written \(.*{REASON}.*\): make"):
        save_model(tmp_path / "model", model, STATS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o644), (0o077, 0o600)])
def test_the_umask_says_who_reads_the_files_and_only_their_owner_writes_them(
    umask: int, mode: int, tmp_path: Path, model: MultiMAE
) -> None:
    before = os.umask(umask)
    try:
        save_model(tmp_path / "model", model, STATS)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "model").iterdir()}
    assert modes == {"config.json": mode, "model.safetensors": mode}
    assert (tmp_path / "model").stat().st_mode & 0o777 == 0o755 & ~umask


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(InputError, match=rf"{name} does not exist"):
        load_model(folder)


@pytest.mark.parametrize(("name", "message"), [("config.json", "as JSON"), ("model.safetensors", "as safetensors")])
def test_a_damaged_file(folder: Path, name: str, message: str) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=message):
        load_model(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(format_version=3), "format version 3"),
        (lambda d: d.update(format="other"), "does not describe an mmae model"),
        (lambda d: d.pop("band_stats"), "'band_stats' is missing"),
        (lambda d: d.update(band_stat={}), "'band_stat'; did you mean 'band_stats'"),
        (lambda d: d.update(extra=3), "'extra' must be a mapping"),
        (lambda d: d["model"].update(patchsize=8), "'model.patchsize'; did you mean 'patch_size'"),
        (lambda d: d["model"].update(patch_size=-1), "model.patch_size=-1"),
        (lambda d: d["variant"].pop("dim"), "'variant' must hold"),
        (lambda d: d["variant"].update(dim=30), "width 30"),
        (lambda d: d["variant"].update(mlp_dim=84), "mlp.fc1.weight has shape"),
        (lambda d: d["variant"].update(depth=3), "encoder.blocks.2.* is missing"),
        (lambda d: d["variant"].update(depth=1), "unexpected tensor encoder.blocks.1"),
    ],
)
def test_a_config_that_does_not_fit_is_refused_before_weights_are_read(
    folder: Path, change: Callable[[dict[str, Any]], object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(folder, change)
    monkeypatch.setattr("mmae.model.saved.saved_model.load_file", None)
    with pytest.raises(InputError, match=message) as raised:
        load_model(folder)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["variant"].update(depth=10_000_000),
        lambda d: d["variant"].update(dim=4 * 10**400, num_heads=4),
        lambda d: d["variant"].update(mlp_dim=10**400),
        lambda d: d["model"].update(decoder_depth=1_000_000),
    ],
)
def test_a_huge_model_is_refused_before_it_is_built(
    folder: Path, change: Callable[[dict[str, Any]], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(folder, change)
    monkeypatch.setattr("mmae.model.saved.saved_model.MultiMAE", None)
    with pytest.raises(InputError, match=r"config.json describes a model of .* weights, and model.safetensors holds"):
        load_model(folder)


def test_a_huge_image_is_refused(folder: Path) -> None:
    edit(folder, lambda d: d["model"].update(input_size=8_000_000))
    with pytest.raises(InputError, match=r"input_size=8000000 has .* patches, and at most 262144"):
        load_model(folder)


def test_a_size_is_that_of_the_numbers_beside_it(tmp_path: Path, config: ModelConfig) -> None:
    save_model(tmp_path / "model", MultiMAE(replace(config, size="nano")), STATS)
    edit(tmp_path / "model", lambda d: d["model"].update(size="giant"))
    with pytest.raises(InputError, match=r"model.size='giant', and 'variant' holds the numbers of 'nano'"):
        load_model(tmp_path / "model")


def test_weights_are_floats_and_become_float32(folder: Path) -> None:
    path = folder / "model.safetensors"
    state = load_file(path)
    save_file({name: tensor.half() for name, tensor in state.items()}, path)
    assert {tensor.dtype for tensor in load_model(folder).state_dict().values()} == {torch.float32}
    save_file(state | {"encoder.global_tokens": torch.ones(1, 32, dtype=torch.int32)}, path)
    with pytest.raises(InputError, match=r"encoder.global_tokens holds I32, weights are floats"):
        load_model(folder)


def test_a_tensor_too_many(folder: Path) -> None:
    path = folder / "model.safetensors"
    save_file({**load_file(path), "spare": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="unexpected tensor spare"):
        load_model(folder)


def test_learned_positions_are_weights(
    tmp_path: Path, config: ModelConfig, variant: Variant, make_values: MakeValues
) -> None:
    model = MultiMAE(replace(config, positions="learned"), variant)
    with torch.no_grad():
        model.decoders.get_parameter("positions.table").normal_()
    save_model(tmp_path / "model", model, STATS)
    loaded = load_model(tmp_path / "model")
    assert loaded.config.positions == "learned"
    plan = plan_from_ids(torch.tensor([[0, 5, 9]]), config.num_tokens)
    values = make_values(config, 1)
    here, there = model.eval()(values, plan), loaded(values, plan)
    assert all(torch.equal(here.patches[name], there.patches[name]) for name in config.outputs)
