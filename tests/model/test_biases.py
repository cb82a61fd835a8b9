"""Biases whose gradient is summed sample by sample: the numbers are those of torch's own layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from mmae.model.biases import add_bias, linear
from mmae.model.block import EncoderBlock, TokenLinear
from mmae.model.layers import StackedBlock, StackedLinear
from mmae.variants import Variant

SHAPES: Final = [(1, 1), (3, 1), (1, 5), (4, 7)]
"""Samples, tokens."""


def gradients(layer: Callable[..., Tensor], *tensors: Tensor) -> list[Tensor]:
    """The layer's result, and the gradient of each tensor; what arrives at the result differs from place to place."""
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    result = layer(*leaves)
    arriving = torch.linspace(-1, 2, result.numel(), dtype=result.dtype).view_as(result)
    return [result.detach(), *torch.autograd.grad(result, leaves, arriving)]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_linear_layer_is_torchs(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    tensors = torch.randn(*shape, 6), torch.randn(4, 6), torch.randn(4)
    exact = [tensor.double() for tensor in tensors]
    torch.testing.assert_close(gradients(linear, *exact), gradients(functional.linear, *exact), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_bias_of_each_layer_is_added(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    tensors = torch.randn(3, *shape, 4).double(), torch.randn(3, 4).double()
    expected = gradients(lambda x, bias: x + bias.view(3, 1, 1, 4), *tensors)
    torch.testing.assert_close(gradients(add_bias, *tensors), expected, rtol=1e-12, atol=1e-12)


def test_a_sum_of_bf16_numbers_is_rounded_once() -> None:
    """Each sample's sum is 1 + 1/256, which bf16 rounds to 1: 384 of them are 385.5, not 384."""
    x, bias = torch.zeros(1, 384, 2, 1, dtype=torch.bfloat16), torch.zeros(1, 1, dtype=torch.bfloat16)
    arriving = torch.tensor([1, 2**-8], dtype=torch.bfloat16).view(1, 1, 2, 1).expand_as(x)
    (gradient,) = torch.autograd.grad(add_bias(x, bias.requires_grad_()), bias, arriving)
    assert gradient.item() == torch.tensor(385.5).bfloat16().item() == 386


def test_a_frozen_weight_gets_no_gradient() -> None:
    x, weight, bias = torch.ones(2, 3, 4), torch.ones(5, 4), torch.ones(5, requires_grad=True)
    torch.autograd.backward(linear(x, weight, bias).sum())
    assert bias.grad is not None
    assert bias.grad.tolist() == [6.0] * 5
    assert weight.grad is None


class Sums(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps the axes of every sum that runs in it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.axes: list[list[int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.sum.dim_IntList:
            self.axes.append([axis % args[0].dim() for axis in args[1]])
        return func(*args, **kwargs or {})


def sums_over_tokens(block: nn.Module, x: Tensor, lean: bool) -> int:
    """Sums over the axis of tokens alone, in the compiled backward pass."""
    for module in block.modules():
        if isinstance(module, TokenLinear | StackedLinear):
            module.lean = lean
    torch.compiler.reset()
    result = torch.compile(block, backend="aot_eager")(x)
    with Sums() as sums:
        torch.autograd.backward(result.sum())
    return int(sums.axes.count([x.dim() - 2]))


@pytest.mark.long
@pytest.mark.parametrize(
    ("block", "shape", "biases"),
    [
        (EncoderBlock(Variant(dim=8, depth=1, num_heads=2, mlp_dim=16)), (2, 3, 8), 4),
        (StackedBlock(2, 8, 2), (2, 3, 5, 8), 4),
    ],
)
def test_a_compiler_is_given_sums_sample_by_sample(block: nn.Module, shape: tuple[int, ...], biases: int) -> None:
    x = torch.ones(shape)
    assert sums_over_tokens(block, x, lean=True) == biases
    assert sums_over_tokens(block, x, lean=False) == 0
