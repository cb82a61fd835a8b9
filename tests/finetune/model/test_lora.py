"""LoRA beside peft, merging, and which weights are trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mmae.finetune.model.build_finetuned import build_finetuned
from mmae.finetune.model.lora import FACTORS, LAYERS, LoraLinear, LoraOptions, merged
from mmae.finetune.model.save_finetuned import save_finetuned
from mmae.model.saved.saved_model import load_finetuned
from mmae.model.tuned.finetuned_model import FinetunedModel
from tests.support.finetuned_models import COVER, options, pretrained, shaken

VALUES = {"rgb": torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrained(tmp_path_factory.mktemp("source") / "model")


def build(source: Path, seed: int = 0) -> FinetunedModel:
    head = options("patch_linear")
    return build_finetuned(str(source), COVER, head=head, tuning="lora", lora=LoraOptions(4, 8.0), seed=seed).model


def test_only_factors_and_the_head_are_trained(source: Path) -> None:
    model = build(source)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    factors = {
        f"encoder.blocks.{block}.{layer}.{factor}" for block in range(2) for layer in LAYERS for factor in FACTORS
    }
    assert {name for name in trained if not name.startswith("head.")} == factors


def test_merged_weights_compute_the_same(source: Path, tmp_path: Path) -> None:
    model = shaken(build(source)).eval()
    plain = merged(model)
    assert not any(isinstance(module, LoraLinear) for module in plain.modules())
    assert (model(VALUES) - build(source).eval()(VALUES)).abs().max() > 1e-2
    torch.testing.assert_close(plain(VALUES), model(VALUES), rtol=1e-4, atol=1e-5)
    save_finetuned(tmp_path / "tuned", model, {}, {})
    assert torch.equal(load_finetuned(tmp_path / "tuned")(VALUES), plain(VALUES))
    # The model that is trained further is as it was.
    assert any(isinstance(module, LoraLinear) for module in model.modules())


def test_a_state_resumes_without_the_pretrained_model(source: Path) -> None:
    model = shaken(build(source)).eval()
    other = build(source, seed=9).eval()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(VALUES), model(VALUES))


def test_peft_computes_the_same_with_these_factors() -> None:
    peft = pytest.importorskip("peft", reason="peft is missing")

    torch.manual_seed(1)
    linear, x = nn.Linear(12, 20), torch.randn(5, 12)
    theirs: Any = peft.inject_adapter_in_model(
        peft.LoraConfig(r=3, lora_alpha=6, target_modules=["0"], lora_dropout=0.0), nn.Sequential(linear)
    )
    ours = LoraLinear(nn.Linear(12, 20), LoraOptions(3, 6.0))
    with torch.no_grad():
        ours.weight.copy_(linear.weight)
        ours.bias.copy_(linear.bias)
        ours.lora_b.normal_()
        theirs[0].lora_A["default"].weight.copy_(ours.lora_a)
        theirs[0].lora_B["default"].weight.copy_(ours.lora_b)
    torch.testing.assert_close(ours(x), theirs(x))
    merged_by_peft = theirs[0].get_delta_weight("default") + linear.weight
    torch.testing.assert_close(ours.merged_weight(), merged_by_peft)
