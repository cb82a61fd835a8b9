from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from mmae.finetune.model.build_finetuned import build_finetuned
from mmae.finetune.model.parameter_groups import parameter_groups
from tests.support.finetuned_models import KINDS, options, pretrained, task_for


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrained(tmp_path_factory.mktemp("source") / "model")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tuning", ["full", "frozen", "lora"])
def test_each_trained_parameter_is_in_one_group(kind: str, tuning: str, source: Path) -> None:
    model = build_finetuned(str(source), task_for(kind), head=options(kind), tuning=tuning).model  # type: ignore[arg-type]
    groups = parameter_groups(model, 0.05, 0.5)
    listed = [id(parameter) for group in groups for parameter in group["params"]]
    assert len(listed) == len(set(listed))
    assert set(listed) == {id(parameter) for parameter in model.parameters() if parameter.requires_grad}


def test_the_rate_falls_with_depth(source: Path) -> None:
    model = build_finetuned(str(source), task_for("linear")).model
    groups = parameter_groups(model, 0.05, 0.5)
    rates = {id(parameter): group["lr_scale"] for group in groups for parameter in group["params"]}
    names = dict(model.named_parameters())
    expected = {
        "tokenizer.adapters.rgb.proj.weight": 0.125, "encoder.global_tokens": 0.125,
        "encoder.blocks.0.attn.qkv.weight": 0.25, "encoder.blocks.1.norm1.bias": 0.5, "head.linear.weight": 1.0,
    }  # fmt: skip
    assert {name: rates[id(names[name])] for name in expected} == expected


@pytest.mark.parametrize("kind", KINDS)
def test_norms_biases_and_tokens_do_not_decay(kind: str, source: Path) -> None:
    model = build_finetuned(str(source), task_for(kind), head=options(kind)).model
    decayed = {id(each) for group in parameter_groups(model, 0.05) if group["weight_decay"] for each in group["params"]}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            matrix = name == "weight" and not isinstance(module, nn.LayerNorm | nn.GroupNorm | nn.Embedding)
            assert (id(parameter) in decayed) == matrix, (type(module).__name__, name)
