"""Biases whose gradient is summed where a compiler makes it: over the tokens of each sample first, then over samples.

A compiler fuses the first of these sums into the kernel that makes the gradient, which writes it sample by sample
anyway. A sum over all rows at once becomes a kernel of its own, which reads the whole gradient again.

Shapes: B samples, n tokens, i values in, o values out, O layers of one stack.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional


def linear(x_Bni: Tensor, weight_oi: Tensor, bias_o: Tensor) -> Tensor:
    """(B, n, i) -> (B, n, o), as `torch.nn.functional.linear`."""
    result: Tensor = _Linear.apply(x_Bni, weight_oi, bias_o)
    return result


def add_bias(x_OBno: Tensor, bias_Oo: Tensor) -> Tensor:
    """(O, B, n, o) plus the bias of each layer."""
    result: Tensor = _AddBias.apply(x_OBno, bias_Oo)
    return result


def _sum_tokens(gradient: Tensor) -> Tensor:
    """(..., B, n, o) -> (..., o) in the gradient's dtype; what lies between is at least float32."""
    exact = torch.promote_types(gradient.dtype, torch.float32)
    return gradient.sum(-2, dtype=exact).sum(-2).to(gradient.dtype)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x_Bni: Tensor, weight_oi: Tensor, bias_o: Tensor) -> Tensor:
        ctx.save_for_backward(x_Bni, weight_oi)
        return functional.linear(x_Bni, weight_oi, bias_o)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient_Bno: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x_Bni, weight_oi = ctx.saved_tensors  # type: ignore[attr-defined]
        to_weight_oi = gradient_Bno.flatten(0, 1).T @ x_Bni.flatten(0, 1)
        return gradient_Bno @ weight_oi, to_weight_oi, _sum_tokens(gradient_Bno)


class _AddBias(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x_OBno: Tensor, bias_Oo: Tensor) -> Tensor:
        return x_OBno + bias_Oo[:, None, None]

    @staticmethod
    def backward(ctx: FunctionCtx, gradient_OBno: Tensor) -> tuple[Tensor, Tensor]:
        return gradient_OBno, _sum_tokens(gradient_OBno)
