"""Layers of O decoders of one shape, run as one: weights and activations carry a leading stack axis O.

Each slice along O is an ordinary layer; `tests/model/test_decoders.py` holds them equal. Activations are (O, B, n, d).
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmae.config.schema import AttentionKernel
from mmae.model.attention import cross_attention, self_attention
from mmae.model.biases import add_bias

NORM_EPS: Final = 1e-6
MLP_RATIO: Final = 4


class StackedLinear(nn.Module):
    """O linear layers: (O, ..., in) -> (O, ..., out).

    Attributes:
        lean: compiled, add the bias behind the product, where it is fused with what comes next, and sum its gradient
            where it is made. A product that adds to something first fills its whole result with the bias, and reads it
            again. Without a compiler both move as much, and the single operator is not slower.
    """

    lean = False

    def __init__(self, stack: int, in_features: int, out_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(stack, out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(stack, out_features))

    def forward(self, x: Tensor) -> Tensor:
        flat, matrices = x.flatten(1, -2), self.weight.transpose(1, 2)
        if self.lean and torch.compiler.is_compiling():
            return add_bias(torch.bmm(flat, matrices).view(*x.shape[:-1], -1), self.bias)
        return torch.baddbmm(self.bias[:, None], flat, matrices).view(*x.shape[:-1], -1)


class SharedInputLinear(StackedLinear):
    """O linear layers of one input, as one matrix product: (B, L, in) -> (O, B, L, out)."""

    def forward(self, x: Tensor) -> Tensor:
        stacked = functional.linear(x, self.weight.flatten(0, 1), self.bias.flatten())
        return stacked.view(*x.shape[:-1], *self.bias.shape).movedim(-2, 0)


class StackedLayerNorm(nn.Module):
    """O layer norms: (O, B, n, d) -> (O, B, n, d)."""

    def __init__(self, stack: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(stack, width))
        self.bias = nn.Parameter(torch.zeros(stack, width))

    def forward(self, x: Tensor) -> Tensor:
        normal = functional.layer_norm(x, x.shape[-1:], eps=NORM_EPS)
        return torch.addcmul(self.bias[:, None, None], normal, self.weight[:, None, None])


class StackedMlp(nn.Module):
    """O two-layer perceptrons with exact GELU, four times as wide inside."""

    def __init__(self, stack: int, width: int) -> None:
        super().__init__()
        self.fc1 = StackedLinear(stack, width, MLP_RATIO * width)
        self.fc2 = StackedLinear(stack, MLP_RATIO * width, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return out


class StackedSelfAttention(nn.Module):
    """O self-attentions: (O, B, n, d) -> (O, B, n, d); rows of `qkv` are [q; k; v], each in contiguous heads."""

    def __init__(self, stack: int, width: int, num_heads: int, kernel: AttentionKernel) -> None:
        super().__init__()
        self.num_heads, self.kernel = num_heads, kernel
        self.qkv = StackedLinear(stack, width, 3 * width)
        self.proj = StackedLinear(stack, width, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.proj(self_attention(self.qkv(x), self.num_heads, self.kernel))
        return out


class StackedCrossAttention(nn.Module):
    """O cross-attentions: queries (O, B, n, d) read a context (O, B, L, d); rows of `kv` are [k; v]."""

    def __init__(self, stack: int, width: int, num_heads: int, kernel: AttentionKernel) -> None:
        super().__init__()
        self.num_heads, self.kernel = num_heads, kernel
        self.q = StackedLinear(stack, width, width)
        self.kv = StackedLinear(stack, width, 2 * width)
        self.proj = StackedLinear(stack, width, width)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        out: Tensor = self.proj(cross_attention(self.q(x), self.kv(context), self.num_heads, self.kernel))
        return out


class StackedBlock(nn.Module):
    """O pre-norm transformer blocks (Dosovitskiy et al., ICLR 2021, section 3.1)."""

    def __init__(self, stack: int, width: int, num_heads: int, kernel: AttentionKernel = "torch") -> None:
        super().__init__()
        self.norm1 = StackedLayerNorm(stack, width)
        self.attn = StackedSelfAttention(stack, width, num_heads, kernel)
        self.norm2 = StackedLayerNorm(stack, width)
        self.mlp = StackedMlp(stack, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out
