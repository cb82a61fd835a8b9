"""Float8 in the encoder's linear layers, emulated: what it computes, what it leaves alone, and where it is refused."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmae.config.schema import TrainConfig
from mmae.engine.gpu_options import float8_linears
from mmae.engine.gpu_options.float8_linears import check_float8, use_float8
from mmae.engine.module import PretrainModule, compile_parts
from mmae.errors import InputError
from mmae.losses import scored
from mmae.model.block import EncoderBlock
from mmae.model.recompute import Recompute
from mmae.variants import VARIANTS
from tests.support.step_case import VARIANT, config, micro_batches

pytestmark = pytest.mark.skipif(find_spec("torchao") is None, reason="torchao is missing: pip install 'mmae[float8]'")

EMULATED = TrainConfig(float8="emulated")
CPU = torch.device("cpu")


def emulated(recompute: Recompute = Recompute()) -> PretrainModule:  # noqa: B008  (frozen)
    settings = config(model__drop_path=0.3)
    module = PretrainModule(settings.model, VARIANT, recompute, seed=1).bfloat16()
    use_float8(module, EMULATED, 8)
    return module


def first_layer(module: PretrainModule) -> nn.Linear:
    layer = module.model.encoder.blocks[0].get_submodule("mlp.fc1")
    assert isinstance(layer, nn.Linear)
    return layer


def float8(x: Tensor, dtype: torch.dtype) -> Tensor:
    """What a tensor becomes: its largest number is the format's largest."""
    scale = torch.finfo(dtype).max / x.double().abs().max()
    return (x.float() * scale.float()).to(dtype).float() / scale.float()


def test_products_are_those_of_rounded_numbers() -> None:
    torch.manual_seed(0)
    layer = first_layer(emulated())
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
    use_float8(changed, EMULATED, 8)
    kinds = {name: type(module).__name__ for name, module in changed.named_modules()}
    others = {name for name, module in plain.named_modules() if kinds[name] != type(module).__name__}
    assert others == {f"model.encoder.blocks.0.{name}" for name in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")}
    expected, seen = plain.state_dict(), changed.state_dict()
    assert list(seen) == list(expected)
    assert all(torch.equal(seen[name], expected[name]) for name in expected)
    assert [name for name, _ in changed.named_parameters()] == [name for name, _ in plain.named_parameters()]
    untouched = PretrainModule(settings.model, VARIANT)
    use_float8(untouched, TrainConfig(), 8)
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


@pytest.mark.slow
@pytest.mark.parametrize("how", ["full", "selective"])
def test_recomputed_blocks_give_the_same_bit_for_bit(how: Any) -> None:
    for a, b in zip(gradients(emulated(Recompute(how))), gradients(emulated()), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("micro_batch", [5, 8])
def test_the_units_take_any_number_of_rows(micro_batch: int) -> None:
    """A CPU's kernel for float8 products asks for the same multiples of 16 as a GPU's."""
    found = []
    for how in ("tensorwise", "emulated"):
        module = PretrainModule(config().model, VARIANT, seed=1).bfloat16()
        use_float8(module, TrainConfig(float8=how), micro_batch)
        torch.manual_seed(0)
        layer, x = first_layer(module), torch.randn(micro_batch, 10, VARIANT.dim).bfloat16()
        out = layer(x)
        torch.autograd.backward(out, torch.randn_like(out))
        found.append((out, layer.weight.grad))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


def test_only_layers_that_gain_change_in_a_wide_encoder() -> None:
    with torch.device("meta"):
        blocks = nn.ModuleList([EncoderBlock(VARIANTS[size]) for size in ("large", "huge")])
    model = SimpleNamespace(variant=VARIANTS["large"], encoder=SimpleNamespace(blocks=blocks))
    module: Any = SimpleNamespace(model=model, config=config().model)
    use_float8(module, TrainConfig(float8="tensorwise"), 8)
    changed = [name for name, layer in blocks.named_modules() if type(layer).__name__ == "Float8Linear"]
    huge = ["1.attn.qkv", "1.attn.proj", "1.mlp.fc1", "1.mlp.fc2"]
    assert changed == ["0.attn.qkv", "0.mlp.fc1", *huge]


@pytest.mark.parametrize(
    ("train", "device", "capability", "said"),
    [
        (EMULATED, "cpu", (0, 0), ""),
        (TrainConfig(), "cpu", (0, 0), ""),
        (TrainConfig(float8="tensorwise"), "cpu", (0, 0), "needs a GPU, and this training runs on the cpu"),
        (TrainConfig(float8="tensorwise"), "cuda", (8, 0), "compute capability 8.9 or newer, and A100 has 8.0"),
        (TrainConfig(float8="tensorwise"), "cuda", (8, 9), ""),
        (TrainConfig(float8="tensorwise"), "cuda", (10, 0), ""),
    ],
)
def test_devices_without_float8_are_refused(
    train: TrainConfig, device: str, capability: tuple[int, int], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "A100")
    if not said:
        check_float8(train, torch.device(device))
        return
    with pytest.raises(InputError, match=re.escape(said)):
        check_float8(train, torch.device(device))


@pytest.mark.parametrize(("installed", "said"), [(None, "is not installed"), ("0.9.0", "0.9.0 is installed")])
def test_a_torchao_that_is_missing_or_old_is_refused(
    installed: str | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(_name: str) -> str:
        if installed is None:
            raise PackageNotFoundError
        return installed

    monkeypatch.setattr(float8_linears, "version", version)
    with pytest.raises(InputError, match=rf"train\.float8 needs torchao.*{said}.*pip install 'mmae\[float8\]'"):
        check_float8(EMULATED, CPU)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_compiled_blocks_give_the_same_within_rounding() -> None:
    plain, compiled = emulated(), emulated()
    torch.compiler.reset()
    compile_parts(compiled, backend="aot_eager_decomp_partition")
    for a, b in zip(gradients(compiled), gradients(plain), strict=True):
        torch.testing.assert_close(a, b, rtol=0.05, atol=0.05 * float(b.abs().max()))
    torch.compiler.reset()
