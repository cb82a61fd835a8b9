"""Attention pooling: a learned query reads the tokens of a tile."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from mmae.model.heads.block_outputs import BlockOutputs
from mmae.model.heads.head import EncoderShape, Head
from mmae.model.heads.linear_heads import output_layer
from mmae.model.layers import NORM_EPS


class AttentionHead(Head):
    """A learned query reads all tokens with data and the global tokens (timm's attention pooling)."""

    def __init__(self, blocks: tuple[int, ...], encoder: EncoderShape, outputs: int) -> None:
        super().__init__(blocks, dense=False)
        from timm.layers.attention_pool import AttentionPoolLatent

        norm_layer = partial(nn.LayerNorm, eps=NORM_EPS)
        self.norm = norm_layer(encoder.dim)
        self.pool = AttentionPoolLatent(encoder.dim, num_heads=encoder.num_heads, norm_layer=norm_layer)
        self.linear = output_layer(encoder.dim, outputs)

    def forward(self, encoded: BlockOutputs) -> Tensor:
        tokens_BnD, global_BGD = encoded.maps[-1].flatten(2).transpose(1, 2), encoded.global_tokens[-1]
        tokens_BLD = self.norm(torch.cat([tokens_BnD, global_BGD], dim=1))
        out_BK: Tensor = self.linear(self.pool(tokens_BLD, _readable(encoded)))
        return out_BK


def _readable(encoded: BlockOutputs) -> Tensor | None:
    """Which tokens may be read, bool (B, 1, 1, L); None: all."""
    if encoded.weight_Bhw is None:
        return None
    data_Bn = encoded.weight_Bhw.flatten(1) > 0
    batch, count = encoded.global_tokens[-1].shape[:2]
    data_BL = torch.cat([data_Bn, data_Bn.new_ones(batch, count)], dim=1)
    # Attention over nothing would be NaN: a tile without data and global tokens reads its zeros.
    return (data_BL | ~data_BL.any(1, keepdim=True))[:, None, None]
