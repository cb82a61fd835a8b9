"""Folders of fine-tuned models: round trips, strictness, and files that are not what they should be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import mmae
from mmae.errors import InputError
from mmae.model.mmae import MultiMAE
from mmae.model.saved.saved_model import load_finetuned, load_model, load_saved
from mmae.model.saved.warm_start import warm_start
from tests.support.finetuned_models import COVER, KINDS, SCENE, finetuned, pretrained, task_for


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrained(tmp_path_factory.mktemp("source") / "model")


@pytest.fixture
def folder(source: Path, tmp_path: Path) -> Path:
    finetuned(tmp_path / "tuned", source, COVER, "patch_linear", bands={"ebands": ["B8"]})
    return tmp_path / "tuned"


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_gives_the_same_outputs(kind: str, source: Path, tmp_path: Path) -> None:
    built = finetuned(tmp_path / "tuned", source, task_for(kind), kind, bands={"rgb": ["B3", "B1"]}, image_size=48)
    loaded = load_finetuned(tmp_path / "tuned")
    assert loaded.tuned == built.model.tuned
    assert loaded.config == built.model.config
    values = {"rgb": torch.randn(2, 2, 48, 48), "semseg": torch.randint(12, (2, 12, 12))}
    assert torch.equal(loaded(values), built.model.eval()(values))
    assert not loaded.training


def test_the_card_names_the_model_it_came_from(folder: Path) -> None:
    card = (folder / "README.md").read_text()
    assert "encoder comes from the pretrained model model" in card
    assert "| fine-tuned from | model |" in card
    assert "| its licence | cc-by-4.0 |" in card
    assert "pipeline_tag: image-segmentation" in card
    assert "| 80 | water |" in card
    assert "B8A" not in card
    # The hub refuses a name that is none of its own.
    assert "base_model" not in card


def test_a_fine_tuned_model_is_not_taken_for_a_pretrained_one(folder: Path, source: Path) -> None:
    with pytest.raises(InputError, match="fine-tuned and has no decoders: use mmae"):
        load_model(folder)
    with pytest.raises(InputError, match="this model is fine-tuned and has no decoders"):
        mmae.MultiMAE.from_pretrained(folder)
    with pytest.raises(InputError, match="this model is pretrained and has no task"):
        mmae.load_finetuned(source)
    whole = load_model(source)
    assert isinstance(whole, MultiMAE)
    with pytest.raises(InputError, match="pretraining cannot start from it"):
        warm_start(whole, folder)


@pytest.mark.parametrize(
    "name", ["head.linear.weight", "encoder.blocks.1.mlp.fc2.bias", "tokenizer.adapters.ebands.proj.weight"]
)
def test_every_weight_is_needed_in_its_shape(name: str, folder: Path) -> None:
    file = folder / "model.safetensors"
    state = load_file(file)
    whole = state.pop(name)
    save_file(state, file)
    with pytest.raises(InputError, match=f"{name} is missing"):
        load_finetuned(folder)
    save_file({**state, name: whole[:-1].contiguous()}, file)
    with pytest.raises(InputError, match=f"{name} has shape"):
        load_finetuned(folder)
    save_file({**state, name: whole, f"{name}2": whole.clone()}, file)
    with pytest.raises(InputError, match=f"unexpected tensor {name}2"):
        load_finetuned(folder)


def nested(*keys: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(description: dict[str, Any]) -> None:
        for key in keys[:-1]:
            description = description[key]
        description[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (nested("finetuned", "task", "kind", value="sorcery"), r"finetuned: task.kind"),
        (nested("finetuned", "task", "spell", value=1), r"finetuned: task.spell"),
        (nested("finetuned", "task", "name", value="../../etc"), r"finetuned: task.name"),
        (nested("finetuned", "task", "classes", value=["a", "b", "c"] * 99999), r"finetuned: task.classes"),
        (nested("finetuned", "task", "classes", value=["a", "b"]), "class_codes must have one number a class"),
        (nested("finetuned", "head", "kind", value="linear"), "is about pixels"),
        (nested("finetuned", "head", "width", value=10**9), r"finetuned: head.width"),
        (nested("finetuned", "head", "blocks", value=[7]), "give numbers from 0 to 1"),
        (nested("finetuned", "bands", value={"rgb": []}), r"finetuned: bands.rgb"),
        (nested("finetuned", "bands", value={"sentinel1": ["asc VV"]}), "bands of 'sentinel1': it is not an input"),
        (nested("finetuned", "bands", value={"semseg": ["class"]}), "it holds classes"),
        (nested("finetuned", "bands", value={"rgb": ["B2", "B2"]}), "name each once"),
        (nested("finetuned", "bands", value={"rgb": ["B2", "\x1b[31m|"]}), r"finetuned: bands.rgb"),
        (nested("finetuned", "mode", value=1), r"finetuned: mode"),
        (nested("finetuned", "bands", value={"ebands": ["B8", "B8A"]}), "ebands.proj.weight has shape"),
        (nested("finetuned", "base_patch", value=0), r"finetuned: base_patch"),
        (nested("finetuned", "base_patch", value=10**12), r"finetuned: base_patch"),
        (nested("finetuned", value=[]), "'finetuned' must be a mapping"),
        (nested("finetuned", value=7), "'finetuned' must be a mapping"),
        (nested("model", "out_domains", value=["rgb"]), "unknown key 'model.out_domains'"),
        (nested("model", "patch_size", value=12), "input_size=32 is not divisible"),
        (nested("model", "size", value="base"), "'variant' holds the numbers of 'nano'"),
        (nested("variant", "dim", value=8 * 10**6), "they are not of one model"),
        (nested("variant", "depth", value=10**9), "they are not of one model"),
        (nested("format_version", value=3), "format version 3, this mmae reads up to 2"),
    ],
)
def test_a_config_that_does_not_fit_is_one_line(
    change: Callable[[dict[str, Any]], None], message: str, folder: Path
) -> None:
    file = folder / "config.json"
    description = json.loads(file.read_text())
    change(description)
    file.write_text(json.dumps(description))
    with pytest.raises(InputError, match=message) as raised:
        load_saved(folder)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 500


def test_older_versions_read_pretrained_folders(source: Path, folder: Path) -> None:
    assert json.loads((source / "config.json").read_text())["format_version"] == 1
    assert json.loads((folder / "config.json").read_text())["format_version"] == 2


def test_learned_positions_are_kept_and_resampled(tmp_path: Path) -> None:
    source = pretrained(tmp_path / "learned", positions="learned")
    built = finetuned(tmp_path / "tuned", source, SCENE, "linear", image_size=48)
    values = {"rgb": torch.randn(2, 3, 48, 48)}
    assert torch.equal(load_finetuned(tmp_path / "tuned")(values), built.model.eval()(values))
    old, new = load_model(source), built.model
    with torch.no_grad():
        resampled = old.tokenizer.adapters["rgb"].positions(torch.float32, (6, 6))  # type: ignore[operator]
        kept = new.tokenizer.adapters["rgb"].positions(torch.float32)  # type: ignore[operator]
    # Training has moved them.
    torch.testing.assert_close(kept, resampled, rtol=0, atol=0.3)
