"""One block of the encoder: timm's, with stochastic depth decided outside it.

Every block then runs the same code on the same shapes, so that compiling one compiles all, and computing a block again
in the backward pass needs no random state.
"""

from __future__ import annotations

from functools import partial

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from mmae.model.attention import attend
from mmae.model.layers import NORM_EPS
from mmae.variants import Variant


class EncoderBlock(Block):  # type: ignore[misc]
    """A pre-norm transformer block (Dosovitskiy et al., ICLR 2021, section 3.1), with timm's parameters and names."""

    def __init__(self, variant: Variant) -> None:
        super().__init__(
            variant.dim,
            variant.num_heads,
            # timm takes a ratio and truncates the product: half a unit keeps it from falling one short.
            mlp_ratio=(variant.mlp_dim + 0.5) / variant.dim,
            qkv_bias=True,
            norm_layer=partial(nn.LayerNorm, eps=NORM_EPS),
        )

    def forward(self, x_BLD: Tensor, keep_2B11: Tensor | None = None) -> Tensor:
        """(B, L, D) -> (B, L, D).

        Args:
            keep_2B11: what the attention's and the MLP's branch of each sample is multiplied with; None adds both as
                they are.
        """
        attended_BLD, mlp = self._attend(self.norm1(x_BLD)), self.mlp
        if keep_2B11 is None:
            x_BLD = x_BLD + attended_BLD
            out_BLD: Tensor = x_BLD + mlp(self.norm2(x_BLD))
            return out_BLD
        x_BLD = torch.addcmul(x_BLD, attended_BLD, keep_2B11[0])
        return torch.addcmul(x_BLD, mlp(self.norm2(x_BLD)), keep_2B11[1])

    def _attend(self, x_BLD: Tensor) -> Tensor:
        attention = self.attn
        batch, length, width = x_BLD.shape
        qkv = attention.qkv(x_BLD).view(batch, length, 3, attention.num_heads, attention.head_dim)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        attended = attend(query, key, value)
        out_BLD: Tensor = attention.proj(attended.transpose(1, 2).reshape(batch, length, width))
        return out_BLD
