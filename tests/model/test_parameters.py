from __future__ import annotations

import json
from pathlib import Path

import pytest
from torch import nn

from mmae.config.schema import ModelConfig
from mmae.losses import LossBalancer
from mmae.model.mmae import MultiMAE
from mmae.model.parameters import decays, parameter_groups
from mmae.variants import Variant


def test_published_matrices_decay_and_nothing_else(shared: Path) -> None:
    shapes = json.loads((shared / "golden" / "published_base_names.json").read_text())
    for name, shape in shapes.items():
        learned_matrix = len(shape) in {2, 4} and "pos_emb" not in name and "class_emb" not in name
        assert decays(name) == learned_matrix, name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("decoders.out_proj.norm_rgb.weight", True),
        ("decoders.out_norm.weight", False),
        ("decoders.context_norm.bias", False),
        ("decoders.blocks.0.norm1.weight", False),
        ("decoders.mlp.fc1.weight", True),
        ("decoders.mlp.fc1.bias", False),
        ("decoders.mask_token", False),
        ("decoders.task_embeddings", False),
        ("decoders.positions.table", False),
        ("tokenizer.adapters.rgb.positions.table", False),
        ("encoder.global_tokens", False),
        ("tokenizer.adapters.semseg.class_emb.weight", False),
        ("model.tokenizer.adapters.semseg.proj.weight", True),
        ("loss_balancer.log_vars", False),
        ("weight", True),
    ],
)
def test_names_of_ours(name: str, expected: bool) -> None:
    assert decays(name) == expected


def build(config: ModelConfig, variant: Variant) -> nn.ModuleDict:
    return nn.ModuleDict({"model": MultiMAE(config, variant), "loss_balancer": LossBalancer(len(config.outputs))})


def test_groups_hold_every_trainable_parameter_once(config: ModelConfig, variant: Variant) -> None:
    module = build(config, variant)
    frozen = module["loss_balancer"].log_vars
    assert isinstance(frozen, nn.Parameter)
    frozen.requires_grad_(False)
    decay, rest = parameter_groups(module.named_parameters(), 0.05, paper_exact=False)
    assert (decay["weight_decay"], rest["weight_decay"]) == (0.05, 0.0)
    grouped = [id(parameter) for group in (decay, rest) for parameter in group["params"]]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(parameter) for parameter in module.parameters() if parameter is not frozen}


def test_under_paper_exact_everything_decays(config: ModelConfig, variant: Variant) -> None:
    module = build(config, variant)
    (group,) = parameter_groups(module.named_parameters(), 0.05, paper_exact=True)
    assert len(group["params"]) == len(list(module.parameters()))


def test_no_group_is_empty() -> None:
    assert parameter_groups([], 0.05, paper_exact=False) == []
    (group,) = parameter_groups([("x.bias", nn.Parameter())], 0.05, paper_exact=False)
    assert group["weight_decay"] == 0.0
