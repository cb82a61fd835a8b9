"""Fine-tuned models in the formats of other tools, through the real command, with those tools."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from mmae.cli import main
from mmae.finetune.model.build_finetuned import build_finetuned
from mmae.finetune.model.save_finetuned import save_finetuned
from mmae.model.features import features
from mmae.model.heads.head_options import HeadOptions
from mmae.model.saved.saved_config import SavedModel
from mmae.model.saved.saved_model import load_finetuned
from mmae.model.tuned.finetuned_model import prediction
from mmae.model.tuned.task import Task
from mmae.publish.hub.model_card import model_card
from tests.support.finetuned_models import COVER, HEIGHT, KINDS, SCENE, SOIL, finetuned, pretrained, shaken, task_for


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrained(tmp_path_factory.mktemp("source") / "model")


def export(*words: object) -> int:
    return main(["export", *map(str, words)])


def values(batch: int = 3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "rgb": torch.randn(batch, 3, 32, 32, generator=generator),
        "ebands": torch.randn(batch, 1, 32, 32, generator=generator),
    }


def near(found: Any, expected: Tensor) -> None:
    torch.testing.assert_close(torch.as_tensor(found), expected, rtol=1e-4, atol=1e-5)


def test_a_folder_exported_again_is_the_same_model(source: Path, tmp_path: Path) -> None:
    finetuned(tmp_path / "tuned", source, COVER, "patch_linear")
    assert export(tmp_path / "tuned", tmp_path / "again", "--license", "cc-by-4.0") == 0
    first, second = (load_finetuned(tmp_path / name) for name in ("tuned", "again"))
    assert first.tuned == second.tuned
    rgb = {"rgb": values()["rgb"]}
    assert torch.equal(first(rgb), second(rgb))
    card = (tmp_path / "again" / "README.md").read_text()
    assert "license: cc-by-4.0" in card
    assert "fine-tuned for cover" in card


QUICK = {"linear", "dpt"}
"""Heads whose programs are made in every run of the tests; the others take long."""


@pytest.mark.long
@pytest.mark.parametrize(
    "kind", [kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
)
def test_onnx_predicts_what_the_model_predicts(kind: str, source: Path, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is missing: pip install 'mmae[onnx]'")
    task = HEIGHT if kind == "dpt" else task_for(kind)
    words = {"in_domains": ["rgb", "ebands"], "bands": {"ebands": ["B8"]}}
    finetuned(tmp_path / "tuned", source, task, kind, **words)
    assert export(tmp_path / "tuned", tmp_path / "onnx", "--format", "onnx") == 0
    session = runtime.InferenceSession(str(tmp_path / "onnx" / "model.onnx"))
    assert [each.name for each in session.get_outputs()] == ["prediction"]
    model = load_finetuned(tmp_path / "tuned")
    for batch in (1, 3):
        given = values(batch)
        with torch.no_grad():
            expected = prediction(task, model(given))
        near(session.run(None, {name: each.numpy() for name, each in given.items()})[0], expected)
    notes = session.get_modelmeta().custom_metadata_map
    assert json.loads(notes["mmae.task"])["name"] == task.name
    assert json.loads(notes["mmae.inputs"])["ebands"]["bands"] == ["B8"]


@pytest.mark.long
def test_torch_export_predicts_what_the_model_predicts(source: Path, tmp_path: Path) -> None:
    finetuned(tmp_path / "tuned", source, SOIL, "attention", in_domains=["rgb"])
    assert export(tmp_path / "tuned", tmp_path / "model.pt2", "--format", "torch-export") == 0
    program = torch.export.load(tmp_path / "model.pt2").module()
    with torch.no_grad():
        expected = prediction(SOIL, load_finetuned(tmp_path / "tuned")({"rgb": values()["rgb"]}))
        near(program(values()["rgb"])[0], expected)


@pytest.mark.long
@pytest.mark.parametrize("pooling", ["mean", "global"])
@pytest.mark.parametrize("task", [SCENE, SOIL])
def test_timm_has_the_linear_head_too(pooling: Any, task: Task, source: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is missing: pip install transformers")
    built = build_finetuned(str(source), task, in_domains=["ebands"], bands={"ebands": ["B8"]},
                            head=HeadOptions(pooling=pooling))  # fmt: skip
    save_finetuned(tmp_path / "tuned", shaken(built.model), built.band_stats, built.origin)
    words = ("--modality", "ebands", "--level", "l2a")
    assert export(tmp_path / "tuned", tmp_path / "timm", "--format", "timm", *words) == 0
    theirs = timm.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True).eval()
    wrapped = transformers.AutoModelForImageClassification.from_pretrained(tmp_path / "timm").eval()
    given = {"ebands": values()["ebands"]}
    with torch.no_grad():
        near(theirs(given["ebands"]), load_finetuned(tmp_path / "tuned")(given))
        near(wrapped(pixel_values=given["ebands"]).logits, load_finetuned(tmp_path / "tuned")(given))
    config = json.loads((tmp_path / "timm" / "config.json").read_text())
    assert config["num_classes"] == task.outputs
    assert config["label_names"] == list(task.classes or task.targets)
    assert config["pretrained_cfg"]["mean"] == [1500.0]


@pytest.mark.long
@pytest.mark.parametrize(
    ("task", "kind", "words", "reason"),
    [
        (COVER, "patch_linear", ("--modality", "rgb"), "timm has no head patch_linear"),
        (SCENE, "linear", ("--modality", "rgb"), "it was trained on all bands of rgb, depth, semseg, ebands"),
    ],
)
def test_a_head_that_timm_lacks_is_left_out_and_said_to_be(
    task: Task, kind: str, words: tuple[str, str], reason: str, source: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    finetuned(tmp_path / "tuned", source, task, kind)
    assert export(tmp_path / "tuned", tmp_path / "timm", "--format", "timm", *words, "--level", "l2a") == 0
    assert f"The head for {task.name} is left out: {reason}" in capsys.readouterr().out
    theirs = timm.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True).eval()
    rgb = {"rgb": values()["rgb"]}
    with torch.no_grad():
        ours = features(load_finetuned(tmp_path / "tuned"), rgb).maps["rgb"].flatten(1, 2)
        near(theirs.forward_features(rgb["rgb"])[:, 1:], ours)


@pytest.mark.parametrize("form", ["published"])
def test_a_format_of_decoders_refuses_it(
    form: str, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finetuned(tmp_path / "tuned", source, SCENE, "linear")
    assert export(tmp_path / "tuned", tmp_path / "file.pth", "--format", form) == 2
    assert "a fine-tuned model has no decoders" in capsys.readouterr().err
    assert not (tmp_path / "file.pth").exists()


@pytest.mark.parametrize("form", ["torchgeo", "terratorch", "torchgeo-bench"])
@pytest.mark.long
def test_plug_ins_take_the_encoder(form: str, source: Path, tmp_path: Path) -> None:
    finetuned(tmp_path / "tuned", source, SCENE, "linear", in_domains=["rgb"], patch_size=16, image_size=64)
    words = ("--modality", "rgb") if form == "torchgeo" else ()
    assert export(tmp_path / "tuned", tmp_path / "out", "--format", form, "--level", "l2a", *words) == 0


def card(extra: dict[str, Any], task: Task = COVER) -> str:
    built = build_finetuned(None, task, size="nano", in_domains=["rgb"], head=HeadOptions(kind="patch_linear"))
    model = built.model
    return model_card(SavedModel(model.config, model.variant, {}, extra, "0.1.0", model.tuned))


def test_the_card_tells_recipe_and_scores() -> None:
    text = card({"base_model": "owner/name", "finetuning": {"recipe": {"train.lr": 1e-4},
                                                            "scores": {"test": {"miou": 0.4321}}}})  # fmt: skip
    assert "\nbase_model: owner/name\n" in text
    assert "| `train.lr` | 0.0001 |" in text
    assert "| test | miou | 0.4321 |" in text


@pytest.mark.parametrize("base", ["a\nlicense: mit", "x | y", 7, ["a/b"], "a/b/c", "../b"])
def test_notes_of_a_stranger_stay_in_their_place(base: Any) -> None:
    text = card({"base_model": base, "base_license": "\x1b[31m|", "finetuning": {"recipe": 3, "scores": {"a": 1}}})
    assert "base_model:" not in text
    assert "\x1b" not in text
    assert "\nlicense: mit" not in text
    assert "No scores are known of." in text


def test_arguments_need_no_more_than_before() -> None:
    """`mmae predict` of a pretrained model asks for --outputs itself, in its own words."""
    from mmae.scenes.predict import add_arguments

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert parser.parse_args(["m", "a.tif", "out"]).outputs is None
