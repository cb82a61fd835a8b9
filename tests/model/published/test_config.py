from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mmae.config.schema import ModelConfig
from mmae.errors import InputError
from mmae.model.mmae import MultiMAE
from mmae.model.published.config import PublishedModel, infer_model, published_weights
from mmae.model.published.file import PublishedFile, read_published
from mmae.model.published.weights import to_published
from mmae.variants import VARIANTS, Variant
from tests.support.published_case import options, published_model, save_published


def infer(
    weights: dict[str, Tensor],
    args: dict[str, Any] | None = None,
    log_vars: tuple[float, ...] | None = None,
    **others: Any,
) -> PublishedModel:
    return infer_model(PublishedFile(Path("x.pth"), weights, args or {}, log_vars, None), **others)


def meta_weights(config: ModelConfig, variant: Variant | None = None) -> dict[str, Tensor]:
    with torch.device("meta"):
        model = MultiMAE(config, variant)
    return to_published(model.state_dict(), config, variant)


def test_the_published_base_model(shared: Path) -> None:
    shapes = json.loads((shared / "golden" / "published_base_names.json").read_text())
    found = infer({name: torch.empty(shape, device="meta") for name, shape in shapes.items()})
    assert found.config == ModelConfig()
    assert found.variant == VARIANTS["base"]
    assert found.notes == ("the file does not have the decoders' heads: assumed 8",)


CONFIGS = {
    "nano": ModelConfig(size="nano"),
    "large": ModelConfig(size="large", patch_size=16, input_size=112),
    "giant": ModelConfig(size="giant", patch_size=4, input_size=28),
    "gigantic": ModelConfig(size="gigantic", decoder_depth=0, num_global_tokens=0),
    "no norm_rgb": ModelConfig(size="tiny", extra_norm_pix_loss=False, decoder_dim=64, num_global_tokens=3),
    "labels only": ModelConfig(size="tiny", in_domains=("semseg",), num_encoded_tokens=8),
    "an output only": ModelConfig(size="tiny", out_domains=("sentinel1", "rgb")),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_shapes_decide(config: ModelConfig) -> None:
    found = infer(meta_weights(config))
    assert found.config == config
    assert found.variant == config.variant


def test_options_decide_what_no_shape_shows() -> None:
    config = ModelConfig(
        size="nano",
        in_domains=("semseg", "rgb"),
        out_domains=("semseg", "rgb"),
        input_size=(64, 128),
        num_encoded_tokens=30,
        alphas=(0.5, 2.0),
        decoder_num_heads=4,
    )
    found = infer(meta_weights(config), vars(options(config, sample_tasks_uniformly=True, drop_path=0.1)))
    assert found.config == replace(config, sample_tasks_uniformly=True, drop_path=0.1)
    assert found.notes == ()


@pytest.mark.parametrize("said", ["ired-rgb-semseg", ["ired", "rgb", "semseg"], ("ired", "rgb", "semseg")])
def test_the_order_is_that_of_the_options(said: Any) -> None:
    config = ModelConfig(size="nano", in_domains=("rgb", "semseg", "ired"), num_encoded_tokens=8)
    assert infer(meta_weights(config), {"in_domains": said}).config.in_domains == ("ired", "rgb", "semseg")


def test_without_an_order_the_files_own_stays() -> None:
    config = ModelConfig(size="nano", in_domains=("semseg", "ired", "rgb"), num_encoded_tokens=8)
    for args in ({}, {"in_domains": None}):
        assert infer(meta_weights(config), args).config.in_domains == ("semseg", "ired", "rgb")


def test_the_second_rgb_decoder_may_be_named_among_the_outputs() -> None:
    config = ModelConfig(size="nano", out_domains=("semseg", "rgb"))
    said = {"out_domains": ["rgb", "norm_rgb", "semseg"]}
    assert infer(meta_weights(config), said).config.out_domains == ("rgb", "semseg")


def test_a_balancer_is_seen() -> None:
    weights = meta_weights(ModelConfig(size="nano"))
    assert infer(weights, log_vars=(0.0,) * 6).config.task_balancer == "uncertainty"
    assert infer(weights).config.task_balancer == "none"


def test_a_size_outside_the_table_needs_its_heads() -> None:
    variant = Variant(48, 3, 6, 100)
    weights = meta_weights(ModelConfig(size="nano"), variant)
    with pytest.raises(InputError, match=r"no size in the table has width 48, depth 3 .*--heads"):
        infer(weights)
    assert infer(weights, num_heads=6).variant == variant
    assert infer(weights, {"num_heads": 6}).variant == variant
    with pytest.raises(InputError, match="48 is not divisible by 5 heads"):
        infer(weights, num_heads=5)
    assert infer(meta_weights(ModelConfig(size="nano")), num_heads=4).variant.num_heads == 4


def test_the_user_gives_the_decoder_heads() -> None:
    weights = meta_weights(ModelConfig(size="nano"))
    assert infer(weights, {"decoder_num_heads": 4}, decoder_num_heads=2).config.decoder_num_heads == 2
    with pytest.raises(InputError, match=r"decoder_dim=128 is not divisible by model\.decoder_num_heads=3"):
        infer(weights, decoder_num_heads=3)


def without(name: str) -> Callable[[dict[str, Tensor]], object]:
    return lambda weights: weights.pop(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            without("encoder.0.mlp.fc1.weight"),
            r"encoder\.0\.mlp\.fc1\.weight, which shows the model's size, is missing",
        ),
        (
            without("output_adapters.rgb.out_norm.weight"),
            r"output_adapters\.rgb\.out_norm\.weight, which .* is missing",
        ),
        (lambda w: w.update({"input_adapters.rgb.proj.weight": torch.zeros(3)}), r"shape \(3,\), but 4 axes"),
        (lambda w: w.update({"encoder.0.mlp.fc1.weight": torch.zeros(0, 64)}), r"shape \(0, 64\)"),
        (lambda w: w.update({"input_adapters.rbg.proj.bias": torch.zeros(3)}), r"rbg: unknown modality.* 'rgb'"),
        (lambda w: w.update({"output_adapters.x.proj.bias": torch.zeros(3)}), r"output_adapters\.x: unknown"),
        (lambda w: [w.pop(name) for name in list(w) if "input_adapters" in name], "no weight is called input_ad"),
        (lambda w: [w.pop(name) for name in list(w) if "output_adapters" in name], "no weight is called output_ad"),
        (lambda w: w.clear(), r"encoder\.0\.mlp\.fc1\.weight, which .* is missing"),
    ],
)
def test_weights_that_show_no_size(change: Callable[[dict[str, Tensor]], object], message: str) -> None:
    weights = meta_weights(ModelConfig(size="nano"))
    change(weights)
    with pytest.raises(InputError, match=message) as raised:
        infer(weights)
    assert str(raised.value).startswith("x.pth: ")
    assert "\n" not in str(raised.value)


def test_options_that_contradict_the_weights() -> None:
    with pytest.raises(InputError, match=r"x\.pth: its options: model\.input_size=60 is not divisible"):
        infer(meta_weights(ModelConfig(size="nano")), {"input_size": 60})


SMALL = ModelConfig(size="nano", in_domains=("rgb", "semseg"), out_domains=("rgb", "semseg"), num_encoded_tokens=16)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "decoder_use_task_queries",
            False,
            "=False asks for a different model: in this one a decoder's queries",
        ),
        ("decoder_use_task_queries", None, "=None asks for a different model"),
        ("decoder_use_task_queries", "True", "='True' asks for a different model"),
        (
            "decoder_use_xattn",
            False,
            "=False asks for a different model: in this one a decoder's queries always attend to",
        ),
        ("standardize_depth", False, "=False asks for a different model: in this one elevation is always standardised"),
        ("qkv_bias", True, "=True is unknown, and may change .*--ignore-option qkv_bias"),
        ("new\x1b[2J", [1], r"new\\x1b\[2J"),
        ("extra_norm_pix_loss", False, "=False contradicts its weights, which show True"),
        ("patch_size", 16, "=16 contradicts its weights, which show 8"),
        ("num_global_tokens", 2, "=2 contradicts its weights, which show 1"),
        ("decoder_dim", 64, "=64 contradicts its weights, which show 128"),
        ("decoder_depth", 1, "=1 contradicts its weights, which show 2"),
        ("in_domains", ["rgb"], r"=\['rgb'\] contradicts its weights, which show rgb, semseg"),
        ("in_domains", "rgb-depth", "='rgb-depth' contradicts its weights"),
        ("in_domains", 3, "=3 contradicts its weights"),
        ("in_domains", [["rgb"]], "contradicts its weights"),
        ("out_domains", ["rgb", "semseg", "depth"], "contradicts its weights, which show rgb, semseg"),
        ("task_balancer", "gradnorm", r"='gradnorm' is unknown \(known: none, uncertainty\)"),
        ("model", "pretrain_multimae_base", r"='pretrain_multimae_base' is not nano, .*--heads 2"),
        ("model", 7, "=7 is not nano, the size"),
    ],
)
def test_an_option_that_changes_numbers_is_refused_by_its_name(
    name: str, value: Any, message: str, tmp_path: Path
) -> None:
    weights = published_model(SMALL, SMALL.variant)
    path = save_published(tmp_path / "x.pth", weights, argparse.Namespace(**{name: value}))
    with pytest.raises(InputError, match=message) as raised:
        infer_model(read_published(path))
    said = str(raised.value)
    assert said.startswith(f"{path}: ")
    assert said.isprintable()
    if name != "model":
        with pytest.raises(InputError, match=message):
            published_weights(path, SMALL, SMALL.variant)


def test_options_that_change_no_number_or_agree_with_the_weights_are_accepted() -> None:
    said = {
        "decoder_use_task_queries": True, "decoder_use_xattn": 1, "standardize_depth": True, "patch_size": 8,
        "num_global_tokens": 1, "decoder_dim": 128, "decoder_depth": 2, "extra_norm_pix_loss": True,
        "task_balancer": "none", "model": "pretrain_multimae_nano", "epochs": 1600, "opt": "adamw", "lr": 1e-4,
        "fp32_output_adapters": "semseg", "wandb_project": None, "dist_url": "env://", "decoder_num_heads": 8,
    }  # fmt: skip
    found = infer(meta_weights(SMALL), said)
    assert found.config == SMALL
    assert found.notes == ()


def test_an_unknown_option_that_the_user_knows_to_change_nothing() -> None:
    weights, said = meta_weights(SMALL), {"decoder_num_heads": 8, "note": "x", "decoder_use_xattn": False}
    with pytest.raises(InputError, match="option note='x' is unknown"):
        infer(weights, said)
    with pytest.raises(InputError, match="decoder_use_xattn=False asks for a different"):
        infer(weights, said, ignored=["note"])
    with pytest.raises(InputError, match="--ignore-option decoder_use_xattn: mmae knows what this option does"):
        infer(weights, said, ignored=["decoder_use_xattn"])
    with pytest.raises(InputError, match=r"--ignore-option not: x\.pth has no such option; did you mean 'note'"):
        infer(weights, said, ignored=["not"])
    assert infer(weights, said | {"decoder_use_xattn": True}, ignored=["note"]).config == SMALL


def test_a_balancer_that_the_options_name() -> None:
    weights = meta_weights(SMALL)
    found = infer(weights, {"task_balancer": "uncertainty", "decoder_num_heads": 8})
    assert found.config.task_balancer == "uncertainty"
    assert found.notes == ("task_balancer=uncertainty, but the file holds no log variances: they begin at 0",)
    with pytest.raises(InputError, match="task_balancer='none' contradicts the log variances"):
        infer(weights, {"task_balancer": "none"}, log_vars=(0.0, 0.0))


def test_how_inputs_were_normalised_is_a_note() -> None:
    said = {"imagenet_default_mean_and_std": True, "decoder_num_heads": 8}
    (note,) = infer(meta_weights(SMALL), said).notes
    assert note.startswith("imagenet_default_mean_and_std=True is not used: inputs are normalised with")
    assert infer(meta_weights(SMALL), said | {"imagenet_default_mean_and_std": False}).notes == ()


def test_a_file_without_global_tokens_gets_the_true_reason() -> None:
    weights = meta_weights(SMALL) | {"global_tokens": torch.zeros(1, 0, 64)}
    with pytest.raises(InputError, match=r"has no global token \(num_global_tokens=0, .* mmae does not know") as raised:
        infer(weights, {"num_global_tokens": 0})
    assert "axes were expected" not in str(raised.value)


def test_weights_for_a_model_with_known_settings(config: ModelConfig, variant: Variant, tmp_path: Path) -> None:
    # Another order of the same modalities is the same model.
    weights = published_model(config, variant, seed=5)
    path = save_published(tmp_path / "x.pth", weights, options(config))
    turned = replace(config, in_domains=config.in_domains[::-1], out_domains=config.out_domains[::-1])
    back = to_published(published_weights(path, turned, variant), turned, variant)
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in weights.items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decoder_num_heads": 4}, "its decoder_num_heads is 2, but this model's is 4"),
        ({"decoder_dim": 32}, r"has shape .*, this model needs .* \(\d+ in all\)"),
        ({"out_domains": ("rgb",)}, r"unexpected name output_adapters\.depth\.\S+ \(\d+ in all\)"),
        ({"in_domains": ("rgb", "slope")}, r"input_adapters\.slope\.proj\.weight is missing \(\d+ in all\)"),
    ],
)
def test_weights_of_another_model(
    changes: dict[str, Any], message: str, config: ModelConfig, variant: Variant, tmp_path: Path
) -> None:
    path = save_published(tmp_path / "x.pth", published_model(config, variant), options(config))
    with pytest.raises(InputError, match=message) as raised:
        published_weights(path, replace(config, **changes), variant)
    assert str(raised.value).startswith(f"{path}: ")


def test_the_options_give_the_encoder_heads(config: ModelConfig, variant: Variant, tmp_path: Path) -> None:
    args = argparse.Namespace(num_heads=2)
    path = save_published(tmp_path / "x.pth", published_model(config, variant), args)
    with pytest.raises(InputError, match="its num_heads is 2, but this model's is 4"):
        published_weights(path, config, variant)
