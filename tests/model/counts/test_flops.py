"""The closed formulas against the model itself and torch's own counter."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from mmae.config.schema import ModelConfig
from mmae.engine.module import PretrainModule
from mmae.modalities import MODALITIES
from mmae.model import layers, tokenizer
from mmae.model.counts.flops import Flops, Recomputation, model_flops, training_flops_per_tile
from mmae.model.counts.parameter_counts import CLASS_WIDTH, DECODER_MLP_RATIO, parameter_counts
from mmae.model.mmae import MultiMAE
from mmae.model.recompute import Recompute
from mmae.types import MaskPlan
from mmae.variants import VARIANTS, Variant

CONFIGS = {
    "published": ModelConfig(size="nano"),
    "base": ModelConfig(size="base"),
    "patch 16": ModelConfig(size="nano", input_size=(224, 112), patch_size=16, num_encoded_tokens=200),
    "no blocks": ModelConfig(size="nano", decoder_depth=0),
    "deep decoders": ModelConfig(size="nano", decoder_depth=5, decoder_dim=64, decoder_num_heads=4),
    "no norm_rgb": ModelConfig(size="nano", extra_norm_pix_loss=False),
    "one modality": ModelConfig(size="nano", in_domains=("depth",), out_domains=("rgb",), num_encoded_tokens=10),
    "labels": ModelConfig(
        size="nano",
        in_domains=("semseg", "dynamic_world"),
        out_domains=("semseg",),
        extra_norm_pix_loss=False,
        num_encoded_tokens=10,
    ),
    "all modalities": ModelConfig(size="nano", in_domains=(*MODALITIES,), out_domains=(*MODALITIES,)),
    "no global tokens": ModelConfig(size="nano", num_global_tokens=0),
    "many global tokens": ModelConfig(size="nano", num_global_tokens=7, drop_path=0.2),
    "learned positions": ModelConfig(positions="learned", input_size=(48, 64)),
    "uncertainty": ModelConfig(size="nano", task_balancer="uncertainty"),
}

_ATEN = torch.ops.aten


def _sdpa(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    count: int = sdpa_flop_count(query, key, value)  # type: ignore[no-untyped-call]
    return count


def _sdpa_backward(grad: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    count: int = sdpa_backward_flop_count(grad, query, key, value)  # type: ignore[no-untyped-call]
    return count


FUSED_ON_A_CPU = {
    _ATEN._scaled_dot_product_flash_attention_for_cpu: _sdpa,
    _ATEN._scaled_dot_product_flash_attention_for_cpu_backward: _sdpa_backward,
}
"""torch's counter leaves the CPU's fused attention out."""


def inputs(config: ModelConfig, device: str) -> tuple[dict[str, Tensor], MaskPlan]:
    values = {}
    for name in config.in_domains:
        modality = MODALITIES[name]
        height, width = (side // modality.stride for side in config.image_hw)
        if modality.categorical:
            values[name] = torch.zeros(1, height, width, dtype=torch.int64, device=device)
        else:
            values[name] = torch.zeros(1, len(modality.bands), height, width, device=device)
    keep_BK = torch.arange(config.num_encoded_tokens, device=device)[None]
    return values, MaskPlan(keep_BK, torch.ones(1, config.num_tokens, dtype=torch.bool), keep_BK.sum(1))


def counted(
    config: ModelConfig, recompute: Recompute, device: str, fused: bool, frozen: Collection[str] = ()
) -> tuple[int, int]:
    """Forward and backward operations of one tile, by torch's counter."""
    with torch.device("meta"):
        model = MultiMAE(config, None, recompute)
    for part in frozen:
        model.get_submodule(part).requires_grad_(False)
    model = model.to("meta") if device == "meta" else model.to_empty(device=device)
    values, plan = inputs(config, device)
    counts = []
    with nullcontext() if fused else sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False, custom_mapping=FUSED_ON_A_CPU) as counter:
            patches = model(values, plan).patches
        counts.append(counter.get_total_flops())
        with FlopCounterMode(display=False, custom_mapping=FUSED_ON_A_CPU) as counter:
            torch.autograd.backward(torch.stack([patch.sum() for patch in patches.values()]).sum())
        counts.append(counter.get_total_flops())
    return counts[0], counts[1]


@pytest.mark.long
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_forward_and_backward_are_torchs_count(config: ModelConfig) -> None:
    forward, backward = counted(config, Recompute(), "meta", fused=False)
    ours = model_flops(config, None, Recomputation(fused_attention=False)).total
    assert ours.forward == pytest.approx(forward, rel=0.005)
    assert ours.backward == pytest.approx(backward, rel=0.005)
    assert ours.recomputed == 0
    assert training_flops_per_tile(config) == ours.forward + ours.backward == ours.model == ours.hardware


@pytest.mark.long
@pytest.mark.parametrize("frozen", [{"tokenizer"}, {"encoder"}, {"decoders"}, {"tokenizer", "encoder"}], ids=sorted)
def test_frozen_parts_are_torchs_count(frozen: set[str]) -> None:
    config = ModelConfig(size="tiny")
    total = sum(counted(config, Recompute(), "meta", fused=False, frozen=frozen))
    assert training_flops_per_tile(config, frozen=frozenset(frozen)) == pytest.approx(total, rel=0.005)
    assert total < 0.994 * training_flops_per_tile(config)


@pytest.mark.long
@pytest.mark.parametrize("how", ["none", "selective", "full"])
@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("fused", [True, False])
def test_what_is_computed_again_is_torchs_count(how: Any, every: int, fused: bool) -> None:
    config = ModelConfig(
        size="nano",
        out_domains=("rgb",),
        input_size=112,
        num_encoded_tokens=150,
        decoder_dim=32,
        decoder_num_heads=4,
        drop_path=0.1 * (every - 1),
    )
    forward, backward = counted(config, Recompute(how, every), "cpu", fused)
    ours = model_flops(config, None, Recomputation(how, every, fused)).total
    assert ours.forward == pytest.approx(forward, rel=0.005)
    assert ours.backward + ours.recomputed == pytest.approx(backward, rel=0.005)
    assert ours.model == training_flops_per_tile(config)
    # What one wrong term would change is more than is allowed for.
    plain = counted(config, Recompute(), "cpu", fused=False)[1]
    assert (backward > 1.01 * plain) == (fused or how == "full")


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_parameters_are_the_modules(config: ModelConfig) -> None:
    with torch.device("meta"):
        module = PretrainModule(config)
    parts = parameter_counts(config)
    for name, part in (("tokenizer", parts.tokenizer), ("encoder", parts.encoder), ("decoders", parts.decoders)):
        assert sum(p.numel() for p in getattr(module.model, name).parameters()) == part, name
    assert sum(p.numel() for p in module.parameters()) == parts.total


@pytest.mark.long
@pytest.mark.parametrize("size", VARIANTS)
@pytest.mark.parametrize("patch_size", [8, 16])
def test_parameters_of_every_size(size: str, patch_size: int) -> None:
    config = ModelConfig(size=size, patch_size=patch_size, input_size=112)
    with torch.device("meta"):
        model = MultiMAE(config)
    assert sum(p.numel() for p in model.parameters()) == parameter_counts(config).total


def test_a_variant_outside_the_table() -> None:
    variant = Variant(dim=32, depth=3, num_heads=4, mlp_dim=84)
    with torch.device("meta"):
        model = MultiMAE(CONFIGS["published"], variant)
    assert sum(p.numel() for p in model.parameters()) == parameter_counts(CONFIGS["published"], variant).total
    # Heads share the width: they cost nothing.
    other = Variant(dim=32, depth=3, num_heads=2, mlp_dim=84)
    assert model_flops(CONFIGS["published"], variant) == model_flops(CONFIGS["published"], other)


def test_the_published_recipes_size() -> None:
    """Figures of MultiMAE's base model at 49 of 294 tokens: about 9.2 GFLOP forward, 27 with backward."""
    total = model_flops(ModelConfig()).total
    assert total.forward / 1e9 == pytest.approx(9.2, abs=0.1)
    assert total.model / 1e9 == pytest.approx(27.4, abs=0.6)


def test_only_visible_tokens_reach_the_encoder() -> None:
    few, all_but_one = (model_flops(ModelConfig(num_encoded_tokens=kept)) for kept in (49, 293))
    assert few.tokenizer == all_but_one.tokenizer
    # Six times as many tokens, and attention grows with their square.
    assert 294 / 50 < all_but_one.encoder.forward / few.encoder.forward < 1.1 * 294 / 50


def test_sums() -> None:
    total = Flops(1, 2, 3) + Flops(10, 20, 30)
    assert (total.model, total.hardware) == (33, 66)


def test_constants_are_those_of_the_layers() -> None:
    assert (CLASS_WIDTH, DECODER_MLP_RATIO) == (tokenizer.CLASS_WIDTH, layers.MLP_RATIO)


@pytest.mark.process
def test_torch_is_not_needed() -> None:
    script = "import sys, mmae.model.counts.flops; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
