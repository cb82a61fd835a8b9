"""One block of the encoder, under timm's names, with stochastic depth decided outside it.

Every block then runs the same code on the same shapes, so that compiling one compiles all, and computing a block again
in the backward pass needs no random state. timm itself is not imported: it needs torchvision, and using a model does
not. `tests/model/test_block.py` holds the two equal.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmae.config.schema import AttentionKernel
from mmae.model import biases
from mmae.model.attention import self_attention
from mmae.model.layers import NORM_EPS
from mmae.variants import Variant


class TokenLinear(nn.Linear):
    """A linear layer of tokens: (B, L, in) -> (B, L, out).

    Attributes:
        lean: compiled, sum the bias's gradient where it is made. Without a compiler that would gain nothing.
    """

    lean = False

    def forward(self, x_BLi: Tensor) -> Tensor:
        if self.lean and torch.compiler.is_compiling():
            return biases.linear(x_BLi, self.weight, self.bias)
        return super().forward(x_BLi)


class SelfAttention(nn.Module):
    """Multi-head self-attention: (B, L, D) -> (B, L, D); rows of `qkv` are [q; k; v], each in contiguous heads."""

    def __init__(self, width: int, num_heads: int, kernel: AttentionKernel) -> None:
        super().__init__()
        self.num_heads, self.kernel = num_heads, kernel
        self.qkv = TokenLinear(width, 3 * width)
        self.proj = TokenLinear(width, width)

    def forward(self, x_BLD: Tensor) -> Tensor:
        out_BLD: Tensor = self.proj(self_attention(self.qkv(x_BLD), self.num_heads, self.kernel))
        return out_BLD


class Mlp(nn.Module):
    """Two layers with exact GELU: (B, L, D) -> (B, L, D)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = TokenLinear(width, hidden)
        self.fc2 = TokenLinear(hidden, width)

    def forward(self, x_BLD: Tensor) -> Tensor:
        out_BLD: Tensor = self.fc2(functional.gelu(self.fc1(x_BLD)))
        return out_BLD


class EncoderBlock(nn.Module):
    """A pre-norm transformer block (Dosovitskiy et al., ICLR 2021, section 3.1)."""

    def __init__(self, variant: Variant, kernel: AttentionKernel = "torch") -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(variant.dim, eps=NORM_EPS)
        self.attn = SelfAttention(variant.dim, variant.num_heads, kernel)
        self.norm2 = nn.LayerNorm(variant.dim, eps=NORM_EPS)
        self.mlp = Mlp(variant.dim, variant.mlp_dim)

    def forward(self, x_BLD: Tensor, keep_2B11: Tensor | None = None) -> Tensor:
        """(B, L, D) -> (B, L, D).

        Args:
            keep_2B11: what the attention's and the MLP's branch of each sample is multiplied with; None adds both as
                they are.
        """
        attended_BLD, mlp = self.attn(self.norm1(x_BLD)), self.mlp
        if keep_2B11 is None:
            x_BLD = x_BLD + attended_BLD
            out_BLD: Tensor = x_BLD + mlp(self.norm2(x_BLD))
            return out_BLD
        x_BLD = torch.addcmul(x_BLD, attended_BLD, keep_2B11[0])
        return torch.addcmul(x_BLD, mlp(self.norm2(x_BLD)), keep_2B11[1])
