from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mmae.config.schema import ModelConfig
from mmae.modalities import MODALITIES
from mmae.model.tokenizer import CategoricalAdapter, ImageAdapter, Tokenizer

MakeValues = Callable[[ModelConfig, int], dict[str, Tensor]]


def patch_of(pixels: Tensor, side: int, row: int, column: int) -> Tensor:
    return pixels[..., row * side : (row + 1) * side, column * side : (column + 1) * side]


@pytest.mark.parametrize("name", ["rgb", "depth", "sentinel1"])
def test_an_image_token_is_a_projected_patch_plus_its_position(name: str, config: ModelConfig) -> None:
    modality = MODALITIES[name]
    adapter = ImageAdapter(modality, config, 12)
    values = torch.randn(2, modality.channels, *config.image_hw)
    tokens = adapter(values)
    assert tokens.shape == (2, config.tokens_per_modality, 12)
    assert adapter.proj.bias is not None
    position = adapter.positions(torch.float32)[1 * config.grid_hw[1] + 2]
    expected = torch.einsum("dcij,bcij->bd", adapter.proj.weight, patch_of(values, 8, 1, 2)) + adapter.proj.bias
    torch.testing.assert_close(tokens[:, 1 * config.grid_hw[1] + 2], expected + position)


@pytest.mark.parametrize(("name", "patch"), [("semseg", 2), ("dynamic_world", 2)])
def test_a_label_token_is_its_projected_class_embeddings(name: str, patch: int, config: ModelConfig) -> None:
    modality = MODALITIES[name]
    adapter = CategoricalAdapter(modality, config, 12)
    height, width = (side // modality.stride for side in config.image_hw)
    ids = torch.randint(modality.num_classes, (2, height, width))
    assert adapter.proj.bias is not None
    embedded = adapter.class_emb.weight[patch_of(ids, patch, 1, 3)].movedim(-1, 1)
    expected = torch.einsum("dcij,bcij->bd", adapter.proj.weight, embedded) + adapter.proj.bias
    tokens = adapter(ids)
    assert adapter.class_emb.weight.shape == (modality.num_classes, 64)
    position = adapter.positions(torch.float32)[7]
    torch.testing.assert_close(tokens[:, 7], expected + position)


def test_tokens_stand_in_the_configs_order(config: ModelConfig, make_values: MakeValues) -> None:
    values = make_values(config, 2)
    tokenizer = Tokenizer(config, 12)
    tokens_BMn = tokenizer(values).view(2, len(config.in_domains), config.tokens_per_modality, 12)
    for m, name in enumerate(config.in_domains):
        torch.testing.assert_close(tokens_BMn[:, m], tokenizer.adapters[name](values[name]))


def test_one_modality_and_one_patch(config: ModelConfig) -> None:
    config = replace(config, in_domains=("sired",), input_size=8)
    assert Tokenizer(config, 12)({"sired": torch.zeros(3, 2, 8, 8)}).shape == (3, 1, 12)


def test_float32_inputs_follow_the_weights_dtype(config: ModelConfig, make_values: MakeValues) -> None:
    tokenizer = Tokenizer(config, 12).to(torch.bfloat16)
    tokens = tokenizer(make_values(config, 1))
    assert tokens.dtype == torch.bfloat16


def test_a_tile_does_not_depend_on_its_batch(config: ModelConfig, make_values: MakeValues) -> None:
    values = make_values(config, 3)
    tokenizer = Tokenizer(config, 12)
    alone = tokenizer({name: value[1:2] for name, value in values.items()})
    torch.testing.assert_close(alone[0], tokenizer(values)[1])


@pytest.mark.parametrize("positions", ["fixed", "learned"])
def test_made_alone_visible_tokens_are_the_same(positions: Any, config: ModelConfig, make_values: MakeValues) -> None:
    config = replace(config, in_domains=("rgb", "semseg", "depth", "dynamic_world"), positions=positions)
    tokenizer, values = Tokenizer(config, 12).double(), make_values(config, 3)
    keep_BK = torch.rand(3, config.num_tokens).argsort(1)[:, :7]
    tokens = tokenizer(
        {name: value if value.dtype == torch.int64 else value.double() for name, value in values.items()}
    )
    expected = tokens.gather(1, keep_BK[:, :, None].expand(-1, -1, 12))
    found = tokenizer(values, keep_BK)
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, [*tokenizer.parameters()], weights)
    for gradient, other in zip(torch.autograd.grad(found, [*tokenizer.parameters()], weights), wanted, strict=True):
        torch.testing.assert_close(gradient, other)


def test_numbers_that_are_lost_reach_no_other_token(config: ModelConfig, make_values: MakeValues) -> None:
    config = replace(config, in_domains=("rgb", "depth"))
    tokenizer, values = Tokenizer(config, 12), make_values(config, 2)
    values["rgb"] = torch.full_like(values["rgb"], torch.nan)
    keep_BK = torch.tensor([[0, config.tokens_per_modality], [config.tokens_per_modality + 1, 2]])
    assert tokenizer(values, keep_BK).isnan().all(2).tolist() == [[True, False], [False, True]]
