"""The commands import published checkpoints and export them again."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import mmae
from mmae.cli import main
from mmae.config.schema import ModelConfig
from mmae.losses import patchify
from mmae.modalities import output_source
from mmae.model.masking import plan_from_ids
from mmae.model.mmae import MultiMAE
from mmae.model.published.file import read_published
from mmae.model.saved.saved_config import read_model_config
from mmae.model.saved.warm_start import warm_start
from tests.support.published_case import options, published_model, save_published

CONFIG = ModelConfig(size="nano", decoder_dim=16, decoder_num_heads=2, decoder_depth=1)
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """A command's exit status and output."""

    def command(*words: object) -> tuple[int, str]:
        status = main([str(word) for word in words])
        said = capsys.readouterr()
        return status, said.err if status else said.out

    return command


@pytest.fixture
def weights() -> dict[str, Tensor]:
    return published_model(CONFIG, CONFIG.variant)


@pytest.fixture
def file(weights: dict[str, Tensor], tmp_path: Path) -> Path:
    return save_published(tmp_path / "checkpoint-3.pth", weights, options(CONFIG))


@pytest.mark.long
def test_published_file_to_folder_and_back_changes_no_bit(
    run: Run, file: Path, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    assert run("import-published", file, tmp_path / "model")[0] == 0
    assert run("export", tmp_path / "model", tmp_path / "back.pth", "--format", "published")[0] == 0
    back = read_published(tmp_path / "back.pth")
    assert back.weights.keys() == weights.keys()
    assert all(torch.equal(back.weights[name], tensor) for name, tensor in weights.items())
    assert back.epoch == 3
    assert run("import-published", tmp_path / "back.pth", tmp_path / "again")[0] == 0
    first, again = (tmp_path / name / "model.safetensors" for name in ("model", "again"))
    assert first.read_bytes() == again.read_bytes()
    assert read_model_config(first.parent).config == read_model_config(again.parent).config == CONFIG


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "heads", "decoder_heads", "said"),
    [
        ("tiny_six_modalities", 3, 4, {}),
        ("tiny_patch16_two_globals", 2, 2, {"input_size": 64, "num_encoded_tokens": 20}),
    ],
)
def test_golden_weights_in_a_file_predict_the_golden_numbers(
    name: str, heads: int, decoder_heads: int, said: dict[str, int], run: Run, shared: Path, tmp_path: Path
) -> None:
    with np.load(shared / "golden" / f"{name}.npz", allow_pickle=False) as archive:
        arrays = {key: torch.from_numpy(np.asarray(archive[key])) for key in archive.files}

    def group(prefix: str) -> dict[str, Tensor]:
        return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}

    file = save_published(tmp_path / "golden.pth", group("weight/"), argparse.Namespace(**said))
    status, _ = run("import-published", file, tmp_path / "model", "--heads", heads, "--decoder-heads", decoder_heads)
    assert status == 0
    model = mmae.load_model(tmp_path / "model")
    output = model(group("input/"), plan_from_ids(arrays["ids_keep"], model.config.num_tokens))
    pairs = [(output.encoded_BLD, arrays["encoded"])]
    for key, reference in group("pred/").items():
        side = output_source(key).patch(model.config.patch_size)
        pairs.append((output.patches[key], patchify(reference, side)))
    assert len(pairs) == 8
    for ours, reference in pairs:
        assert ((ours.detach() - reference).abs().max() / reference.abs().max()).item() <= 1e-5
    assert run("export", tmp_path / "model", tmp_path / "back.pth", "--format", "published")[0] == 0
    back = read_published(tmp_path / "back.pth")
    # Positions are computed afresh: sines differ between machines by a unit in the last place.
    learned = {key: tensor for key, tensor in group("weight/").items() if not key.endswith("pos_emb")}
    assert all(torch.equal(back.weights[key], tensor) for key, tensor in learned.items())
    assert (back.args["num_heads"], back.args["decoder_num_heads"]) == (heads, decoder_heads)


def test_half_precision_loses_nothing(run: Run, weights: dict[str, Tensor], tmp_path: Path) -> None:
    half = {name: tensor.half() for name, tensor in weights.items()}
    file = save_published(tmp_path / "half.pth", half, options(CONFIG))
    assert run("import-published", file, tmp_path / "model")[0] == 0
    assert run("export", tmp_path / "model", tmp_path / "back.pth", "--format", "published")[0] == 0
    back = read_published(tmp_path / "back.pth").weights
    assert all(torch.equal(back[name], half[name].float()) for name in half if not name.endswith("pos_emb"))


def test_log_variances_survive_import_and_export(run: Run, weights: dict[str, Tensor], tmp_path: Path) -> None:
    log_vars = torch.tensor([0.1, -2.5, 1e-8, 3.0, 0.3, -0.7])
    balancer = {"log_vars": log_vars}
    file = save_published(tmp_path / "x.pth", weights, options(CONFIG), loss_balancer=balancer)
    assert run("import-published", file, tmp_path / "model")[0] == 0
    saved = read_model_config(tmp_path / "model")
    assert saved.config.task_balancer == "uncertainty"
    assert tuple(saved.extra["log_vars"]) == CONFIG.out_domains
    assert run("export", tmp_path / "model", tmp_path / "back.pth", "--format", "published")[0] == 0
    back = read_published(tmp_path / "back.pth").log_vars
    assert back is not None
    assert torch.equal(torch.tensor(back), log_vars)


def test_more_log_variances_than_outputs(run: Run, weights: dict[str, Tensor], tmp_path: Path) -> None:
    balancer = {"log_vars": torch.zeros(8)}
    file = save_published(tmp_path / "x.pth", weights, options(CONFIG), loss_balancer=balancer)
    status, said = run("import-published", file, tmp_path / "model")
    assert (status, said.count("\n")) == (2, 1)
    assert "8 numbers for 7 outputs" in said
    assert not (tmp_path / "model").exists()


def test_a_damaged_or_hostile_file_leaves_nothing(run: Run, file: Path, tmp_path: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])
    status, said = run("import-published", file, tmp_path / "model")
    assert (status, said.count("\n")) == (2, 1)
    assert not (tmp_path / "model").exists()
    assert run("import-published", tmp_path / "none.pth", tmp_path / "model")[0] == 2


@pytest.mark.parametrize("change", ["missing", "unexpected", "shape", "learned"])
def test_what_does_not_fit_is_named_and_counted(
    change: str, run: Run, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    match change:
        case "missing":
            for block in (0, 1):
                del weights[f"encoder.{block}.norm1.bias"]
            expected = "encoder.0.norm1.bias is missing (2 in all)"
        case "unexpected":
            weights["encoder.0.extra"] = torch.zeros(1)
            expected = "unexpected name encoder.0.extra (1 in all)"
        case "shape":
            for name in ("encoder.0.norm1.bias", "encoder.1.norm2.weight", "output_adapters.rgb.mask_token"):
                weights[name] = weights[name][..., :-1]
            expected = "encoder.0.norm1.bias has shape (63,), this model needs (64,) (3 in all)"
        case "learned":
            weights["input_adapters.rgb.pos_emb"] = weights["input_adapters.rgb.pos_emb"] + 0.01
            expected = "only a run with model.positions=learned"
    file = save_published(tmp_path / "x.pth", weights, options(CONFIG))
    status, said = run("import-published", file, tmp_path / "model")
    assert (status, said.count("\n")) == (2, 1)
    assert expected in said
    assert not (tmp_path / "model").exists()


def test_band_statistics_are_kept(run: Run, file: Path, tmp_path: Path) -> None:
    stats = {"aster": {"mean": [1.0, 2.0], "std": [3.0, 4.0]}}
    (tmp_path / "stats.json").write_text(json.dumps(stats))
    status, said = run("import-published", file, tmp_path / "model", "--band-stats", tmp_path / "stats.json")
    assert (status, "note" in said) == (0, False)
    assert read_model_config(tmp_path / "model").band_stats == stats
    _, said = run("import-published", file, tmp_path / "bare")
    assert "note: the file has no band statistics" in said


@pytest.mark.parametrize("text", ["[1]", "{", '{"a": 1}', None])
def test_invalid_band_statistics_are_refused(text: str | None, run: Run, file: Path, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "stats.json").write_text(text)
    status, said = run("import-published", file, tmp_path / "model", "--band-stats", tmp_path / "stats.json")
    assert (status, said.count("\n")) == (2, 1)
    assert "stats.json" in said


def test_nothing_is_overwritten(run: Run, file: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine").write_text("x")
    assert run("import-published", file, tmp_path / "model")[0] == 2
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["mine"]
    assert run("import-published", file, tmp_path / "new")[0] == 0
    before = file.read_bytes()
    status, said = run("export", tmp_path / "new", file, "--format", "published")
    assert (status, "exists already" in said) == (2, True)
    assert file.read_bytes() == before


def test_an_unknown_option_needs_ignore_option(run: Run, weights: dict[str, Tensor], tmp_path: Path) -> None:
    file = save_published(tmp_path / "x.pth", weights, options(CONFIG, rotary=True, note="mine"))
    status, said = run("import-published", file, tmp_path / "model", "--ignore-option", "note")
    assert (status, said.count("\n")) == (2, 1)
    assert "option rotary=True is unknown" in said
    assert not (tmp_path / "model").exists()
    words = ("--ignore-option", "note", "--ignore-option", "rotary")
    assert run("import-published", file, tmp_path / "model", *words)[0] == 0


def test_a_model_folder_has_one_step(run: Run, file: Path, tmp_path: Path) -> None:
    assert run("import-published", file, tmp_path / "model")[0] == 0
    status, said = run("export", tmp_path / "model", tmp_path / "x.pth", "--format", "published", "--step", 3)
    assert (status, "holds one step only" in said) == (2, True)
    # Without a format it is copied, notes and all.
    assert run("export", tmp_path / "model", tmp_path / "copy")[0] == 0
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "copy" / name).read_bytes() == (tmp_path / "model" / name).read_bytes()


def test_a_model_starts_from_the_file_as_from_the_folder(run: Run, file: Path, tmp_path: Path) -> None:
    assert run("import-published", file, tmp_path / "model")[0] == 0
    model = MultiMAE(CONFIG)
    by_file, by_folder = warm_start(model, file), warm_start(model, tmp_path / "model")
    assert by_file.differences == by_folder.differences == ()
    for name, initial in model.named_parameters():
        assert torch.equal(by_file.fitted(name, initial), by_folder.fitted(name, initial))
        assert not torch.equal(by_file.fitted(name, initial), initial) or not initial.any()
