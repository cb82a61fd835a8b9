"""Float8 in the encoder's linear layers, emulated: what it computes, what it leaves alone, and where it is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmae.config.recipe_file import build_config
from mmae.config.schema import TrainConfig
from mmae.engine.gpu_options import float8_linears
from mmae.engine.gpu_options.float8_linears import check_float8, use_float8
from mmae.engine.module import PretrainModule, compile_parts
from mmae.errors import InputError
from mmae.losses import scored
from mmae.model.recompute import Recompute
from tests.support.step_case import VARIANT, config, micro_batches

torchao = pytest.importorskip("torchao", reason="torchao is missing: pip install 'mmae[float8]'")

EMULATED = TrainConfig(float8="emulated")
CPU = torch.device("cpu")


def emulated(recompute: Recompute = Recompute()) -> PretrainModule:  # noqa: B008  (frozen)
    settings = config(model__drop_path=0.3)
    module = PretrainModule(settings.model, VARIANT, recompute, seed=1).bfloat16()
    use_float8(module, EMULATED, 40)
    return module


def float8(x: Tensor, dtype: torch.dtype) -> Tensor:
    """What a tensor becomes: its largest number is the format's largest."""
    scale = torch.finfo(dtype).max / x.double().abs().max()
    return ((x.float() * scale.float()).to(dtype).float() / scale.float())


def test_products_are_those_of_rounded_numbers() -> None:
    torch.manual_seed(0)
    layer: Any = emulated().model.encoder.blocks[0].mlp.fc1
    with torch.no_grad():
        layer.bias.normal_()
    x = torch.randn(2, 5, VARIANT.dim, dtype=torch.bfloat16, requires_grad=True)
    out = layer(x)
    e4m3, e5m2 = torch.float8_e4m3fn, torch.float8_e5m2
    x8, w8 = float8(x.detach(), e4m3), float8(layer.weight.detach(), e4m3)
    assert torch.equal(out, (x8 @ w8.T).bfloat16() + layer.bias)
    assert not torch.equal(out, nn.functional.linear(x, layer.weight, layer.bias))
    given = torch.randn_like(out)
    torch.autograd.backward(out, given)
    g8 = float8(given, e5m2)
    assert x.grad is not None
    torch.testing.assert_close(x.grad, (g8 @ w8).bfloat16(), rtol=0.01, atol=0.01)
    torch.testing.assert_close(layer.weight.grad, torch.einsum("bld,ble->de", g8, x8).bfloat16(), rtol=0.01, atol=0.01)
    torch.testing.assert_close(layer.bias.grad, given.sum((0, 1)), rtol=0.01, atol=0.05)


def test_only_linear_layers_of_encoder_blocks_change_and_no_name_or_number() -> None:
    settings = config()
    plain = PretrainModule(settings.model, VARIANT, seed=1)
    changed = PretrainModule(settings.model, VARIANT, seed=1)
    use_float8(changed, EMULATED, 40)
    kinds = {name: type(module).__name__ for name, module in changed.named_modules()}
    others = {name for name, module in plain.named_modules() if kinds[name] != type(module).__name__}
    assert others == {f"model.encoder.blocks.0.{name}" for name in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")}
    expected, seen = plain.state_dict(), changed.state_dict()
    assert list(seen) == list(expected)
    assert all(torch.equal(seen[name], expected[name]) for name in expected)
    assert [name for name, _ in changed.named_parameters()] == [name for name, _ in plain.named_parameters()]
    untouched = PretrainModule(settings.model, VARIANT)
    use_float8(untouched, TrainConfig(), 40)
    assert {type(module) for module in untouched.modules()} == {type(module) for module in plain.modules()}


def gradients(module: PretrainModule) -> list[Tensor]:
    """Losses and gradients of a micro-batch; drop path draws the same each time."""
    settings = config(model__drop_path=0.3)
    ((inputs, plan),) = micro_batches(settings, 1)
    torch.manual_seed(5)
    part, part_O, _ = module(inputs, plan, scored(inputs, plan, settings.model).sum(1).float(), 1.0)
    torch.autograd.backward(part)
    found = [each.grad for each in module.parameters()]
    return [part.detach(), part_O, *(each for each in found if each is not None)]


@pytest.mark.long
@pytest.mark.parametrize("how", ["full", "selective"])
def test_recomputed_blocks_give_the_same_bit_for_bit(how: Any) -> None:
    for a, b in zip(gradients(emulated(Recompute(how))), gradients(emulated()), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("rows", [40, 48])
def test_the_units_take_any_number_of_rows(rows: int) -> None:
    """A CPU's kernel for float8 products asks for the same multiples of 16 as a GPU's."""
    found = []
    for how in ("tensorwise", "emulated"):
        module = PretrainModule(config().model, VARIANT, seed=1).bfloat16()
        use_float8(module, TrainConfig(float8=how), rows)
        torch.manual_seed(0)
        layer, x = module.model.encoder.blocks[0].mlp.fc1, torch.randn(rows // 8, 8, VARIANT.dim).bfloat16()
        out = layer(x)
        torch.autograd.backward(out, torch.randn_like(out))
        found.append((out, layer.weight.grad))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)
