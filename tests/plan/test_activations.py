"""The closed formula against what really lives in a forward and backward pass, without memory for it: fake tensors."""

from __future__ import annotations

import dataclasses
import gc
from typing import Any, cast
from unittest.mock import patch

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_iter

from mmae.config.recipe_file import load_config
from mmae.config.schema import ModelConfig
from mmae.engine.checkpoint.conversion.reshape import _blank
from mmae.engine.module import PretrainModule
from mmae.model import attention
from mmae.model.counts.flops import Recomputation
from mmae.model.recompute import Recompute
from mmae.plan.activations import activations
from tests.support.live_bytes import LiveBytes

TILES = 8192
"""So many that gradients of weights, which are no activations, vanish beside them."""

FEW = {
    "mostly encoder": ModelConfig(
        size="nano", out_domains=("depth",), extra_norm_pix_loss=False, decoder_dim=8, drop_path=0.1,
        num_encoded_tokens=200,
    ),
    "no decoder blocks": ModelConfig(size="nano", decoder_depth=0),
    "learned positions": ModelConfig(size="nano", positions="learned"),
    "not lean": ModelConfig(size="nano", decoder_depth=0, lean=False),
    "labels": ModelConfig(
        size="nano", in_domains=("semseg", "dynamic_world"), out_domains=("semseg",), extra_norm_pix_loss=False,
        num_encoded_tokens=10,
    ),
}  # fmt: skip
MORE = {
    "uncertainty": ModelConfig(size="nano", task_balancer="uncertainty", in_domains=("rgb", "sentinel1")),
    "larger patches": ModelConfig(size="nano", input_size=112, patch_size=16, num_global_tokens=0),
    "published": ModelConfig(),
    "large": load_config("vit_l", []).model,
    "huge": load_config("vit_h", []).model,
    "giant, mostly encoder": ModelConfig(
        size="giant", out_domains=("depth",), extra_norm_pix_loss=False, decoder_dim=32, drop_path=0.1
    ),
    "many tokens": ModelConfig(size="small", positions="learned", num_encoded_tokens=200),
}
EVERY = [
    *(pytest.param(config, id=name) for name, config in FEW.items()),
    *(pytest.param(config, id=name, marks=pytest.mark.slow) for name, config in MORE.items()),
]
MODES: list[Any] = [("none", 1), ("selective", 1), ("full", 1), pytest.param("full", 2, marks=pytest.mark.slow)]


def by_the_efficient_kernels(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention as on a GPU."""
    return cast(Tensor, torch.ops.aten._scaled_dot_product_efficient_attention(query, key, value, None, True)[0])


def grown(what: Any, tiles: int) -> Any:
    """One tile's tensors for so many."""
    if isinstance(what, Tensor):
        return what.expand(tiles, *what.shape[1:]).clone()
    if isinstance(what, dict):
        return {key: grown(value, tiles) for key, value in what.items()}
    return type(what)(**{each.name: grown(getattr(what, each.name), tiles) for each in dataclasses.fields(what)})


def lived(config: ModelConfig, recompute: Recompute, dtype: torch.dtype, device: str) -> tuple[int, int]:
    """Bytes that live after the forward pass, and at most. On a CPU the backward pass runs too.

    Fake tensors of CUDA devices keep what real ones keep; their backward pass needs a GPU.
    """
    with torch.device("meta"):
        module = PretrainModule(config, None, recompute).to(dtype)
    with (
        # Parameters stay real, and empty, until they are given a device.
        FakeTensorMode(allow_non_fake_inputs=True),
        patch.object(attention, "attend", by_the_efficient_kernels),
    ):
        module.to_empty(device=device)
        inputs, plan = (grown(each, TILES) for each in _blank(config, torch.device(device)))
        count_O = torch.ones(len(config.outputs), device=device)
        given = [each for each in tree_iter((vars(inputs), vars(plan), count_O)) if isinstance(each, Tensor)]
        with LiveBytes([*module.parameters(), *module.buffers(), *given]) as live:
            loss, *_ = module(inputs, plan, count_O, 1.0)
            gc.collect()
            kept = live.now
            if device == "cpu":
                torch.autograd.backward(loss)
        return kept, live.peak


@pytest.mark.long
@pytest.mark.parametrize(
    ("how", "every", "number_bytes"),
    [("none", 1, 2), ("selective", 1, 2), ("full", 1, 2), ("full", 2, 2), ("selective", 2, 2), ("none", 1, 4)],
)
def test_what_is_kept_on_a_gpu(how: Any, every: int, number_bytes: int) -> None:
    config, dtype = ModelConfig(size="nano", drop_path=0.1), {2: torch.bfloat16, 4: torch.float32}[number_bytes]
    kept, _ = lived(config, Recompute(how, every), dtype, "cuda")
    assert activations(config, Recomputation(how, every), number_bytes).kept * TILES == pytest.approx(kept, rel=2e-4)


@pytest.mark.long
@pytest.mark.parametrize("config", EVERY)
@pytest.mark.parametrize(("how", "every"), MODES)
def test_what_is_kept_and_the_most_that_lives(config: ModelConfig, how: Any, every: int) -> None:
    formula = activations(config, Recomputation(how, every), 2)
    kept, peak = lived(config, Recompute(how, every), torch.bfloat16, "cpu")
    # Norms on CPUs keep half as many bytes of statistics.
    assert formula.kept * TILES == pytest.approx(kept, rel=5e-3)
    assert formula.peak * TILES == pytest.approx(peak, rel=0.01)


def test_the_known_sizes() -> None:
    """MB a tile in bfloat16, counted apart from the formula: storages that autograd saves."""
    for recipe, megabytes in {"vit_b": 20.51, "vit_l": 45.19}.items():
        formula = activations(load_config(recipe, []).model, Recomputation(), 2)
        assert formula.kept / 1e6 == pytest.approx(megabytes, abs=0.01)


def test_less_lives_where_more_is_computed_again() -> None:
    modes: list[tuple[Any, int]] = [("none", 1), ("selective", 1), ("full", 1), ("full", 2)]
    peaks = [activations(MORE["large"], Recomputation(how, every), 2).peak for how, every in modes]
    none, selective, full, every_second = peaks
    assert none > every_second > full
    assert none > selective > full
