from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mmae.config.schema import ModelConfig
from mmae.errors import InputError
from mmae.model.mmae import MultiMAE
from mmae.model.published.weights import from_published, to_published
from mmae.variants import Variant


def random_state(config: ModelConfig, variant: Variant) -> dict[str, Tensor]:
    return {name: torch.randn_like(tensor) for name, tensor in MultiMAE(config, variant).state_dict().items()}


def test_names_and_shapes_of_the_published_base_model(shared: Path) -> None:
    expected = json.loads((shared / "golden" / "published_base_names.json").read_text())
    config = ModelConfig()
    with torch.device("meta"):
        state = MultiMAE(config).state_dict()
    weights = to_published(state, config)
    assert {name: list(tensor.shape) for name, tensor in weights.items()} == expected


@pytest.mark.parametrize("num_global_tokens", [0, 1, 2])
def test_round_trip(num_global_tokens: int, config: ModelConfig, variant: Variant) -> None:
    config = replace(config, num_global_tokens=num_global_tokens, out_domains=("sentinel1", "rgb"))
    state = random_state(config, variant)
    weights = to_published(state, config, variant)
    back = from_published(weights, config, variant)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)
    again = to_published(back, config, variant)
    assert all(torch.equal(again[name], weights[name]) for name in weights)
    MultiMAE(config, variant).load_state_dict(back)


def test_results_share_no_memory_with_the_state(config: ModelConfig, variant: Variant) -> None:
    state = random_state(config, variant)
    for tensor in to_published(state, config, variant).values():
        tensor.zero_()
    assert all(tensor.any() for tensor in state.values())


def test_dtype_is_kept(config: ModelConfig, variant: Variant) -> None:
    weights = to_published(random_state(config, variant), config, variant)
    half = {name: tensor if "pos_emb" in name else tensor.half() for name, tensor in weights.items()}
    assert {tensor.dtype for tensor in from_published(half, config, variant).values()} == {torch.float16}


@pytest.mark.parametrize("name", ["encoder.0.norm1.weight", "output_adapters.rgb.pos_emb", "global_tokens"])
def test_a_missing_name_is_named(name: str, config: ModelConfig, variant: Variant) -> None:
    weights = to_published(random_state(config, variant), config, variant)
    del weights[name]
    with pytest.raises(InputError, match=f"{name} is missing"):
        from_published(weights, config, variant)


def test_an_unexpected_name_is_named(config: ModelConfig, variant: Variant) -> None:
    weights = to_published(random_state(config, variant), config, variant)
    with pytest.raises(InputError, match=r"unexpected name encoder\.9\.x"):
        from_published({**weights, "encoder.9.x": torch.zeros(1)}, config, variant)


@pytest.mark.parametrize(
    "name", ["encoder.0.mlp.fc1.bias", "output_adapters.rgb.mask_token", "input_adapters.rgb.pos_emb"]
)
def test_a_wrong_shape_is_named(name: str, config: ModelConfig, variant: Variant) -> None:
    weights = to_published(random_state(config, variant), config, variant)
    weights[name] = weights[name][..., :-1]
    with pytest.raises(InputError, match=rf"{name} has shape .* needs"):
        from_published(weights, config, variant)


def test_other_positions_are_refused(config: ModelConfig, variant: Variant) -> None:
    weights = to_published(random_state(config, variant), config, variant)
    weights["output_adapters.norm_rgb.pos_emb"] = weights["output_adapters.norm_rgb.pos_emb"] + 1e-3
    with pytest.raises(InputError, match=r"norm_rgb\.pos_emb is not"):
        from_published(weights, config, variant)


def test_stacks_of_several_dtypes_are_not_rounded(config: ModelConfig, variant: Variant) -> None:
    weights = to_published(random_state(config, variant), config, variant)
    first = "output_adapters.rgb.mlp.fc1.weight"
    mixed = {name: tensor.half() if name == first else tensor for name, tensor in weights.items()}
    back = to_published(from_published(mixed, config, variant), config, variant)
    assert all(torch.equal(back[name], mixed[name].float()) for name in weights)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rounded_positions_are_positions(dtype: torch.dtype, config: ModelConfig, variant: Variant) -> None:
    weights = to_published(random_state(config, variant), config, variant)
    state = from_published({name: tensor.to(dtype) for name, tensor in weights.items()}, config, variant)
    assert {tensor.dtype for tensor in state.values()} == {dtype}


def test_learned_positions_are_not_exported(config: ModelConfig, variant: Variant) -> None:
    learned = replace(config, positions="learned")
    with pytest.raises(InputError, match=r"learned positions \(model\.positions=learned\).*model folder") as refused:
        to_published(random_state(learned, variant), learned, variant)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_learned_positions_start_from_the_files(shift: float, config: ModelConfig, variant: Variant) -> None:
    """They are the published model's positions on this grid, whether those are sine-cosine or not."""
    learned = replace(config, positions="learned")
    published = to_published(random_state(config, variant), config, variant)
    for name in ("input_adapters.semseg.pos_emb", "output_adapters.norm_rgb.pos_emb"):
        published[name] = published[name] + shift * torch.randn_like(published[name])
    state = from_published(published, learned, variant)
    assert state.keys() == MultiMAE(learned, variant).state_dict().keys()

    def table(name: str, mode: str) -> Tensor:
        grid = torch.nn.functional.interpolate(published[name], size=config.grid_hw, mode=mode, align_corners=False)
        return grid[0].flatten(1).T

    for name in config.in_domains:
        expected = table(f"input_adapters.{name}.pos_emb", "bilinear" if name == "semseg" else "bicubic")
        torch.testing.assert_close(state[f"tokenizer.adapters.{name}.positions.table"], expected)
    for o, name in enumerate(config.outputs):
        expected = table(f"output_adapters.{name}.pos_emb", "bilinear")
        torch.testing.assert_close(state["decoders.positions.table"][o], expected)
    MultiMAE(learned, variant).load_state_dict(state)
