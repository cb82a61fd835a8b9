"""The encoder: a pre-norm ViT over the visible tokens of all modalities, and the global tokens behind them.

Dosovitskiy et al., "An Image is Worth 16x16 Words" (ICLR 2021), section 3.1; no norm after the last block.
"""

from __future__ import annotations

from functools import partial

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from mmae.config import ModelConfig
from mmae.model.checkpointing import Checkpointing, run_blocks
from mmae.model.layers import NORM_EPS
from mmae.variants import Variant


def drop_path_rates(last: float, depth: int) -> list[float]:
    """Stochastic depth, growing linearly from 0 at the first block (Huang et al., ECCV 2016, section 3)."""
    return [last * block / max(depth - 1, 1) for block in range(depth)]


def _block(variant: Variant, drop_path: float) -> nn.Module:
    block: nn.Module = Block(
        variant.dim,
        variant.num_heads,
        # The block takes a ratio and truncates the product: half a unit keeps it from falling one short.
        mlp_ratio=(variant.mlp_dim + 0.5) / variant.dim,
        qkv_bias=True,
        drop_path=drop_path,
        norm_layer=partial(nn.LayerNorm, eps=NORM_EPS),
    )
    return block


class Encoder(nn.Module):
    """Visible tokens in, encoded visible and global tokens out."""

    def __init__(self, config: ModelConfig, variant: Variant, checkpointing: Checkpointing) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        # Without global tokens there is no parameter: sharding optimisers do not take empty ones.
        shape = (config.num_global_tokens, variant.dim)
        self.global_tokens = nn.Parameter(torch.zeros(shape)) if config.num_global_tokens else None
        rates = drop_path_rates(config.drop_path, variant.depth)
        self.blocks = nn.ModuleList([_block(variant, rate) for rate in rates])

    def forward(self, tokens_BND: Tensor, keep_BK: Tensor) -> Tensor:
        """All tokens (B, N, D), ids of the visible ones (B, K) -> (B, L, D): those as listed, then global ones."""
        x_BLD = tokens_BND.gather(1, keep_BK[:, :, None].expand(-1, -1, tokens_BND.shape[-1]))
        if self.global_tokens is not None:
            x_BLD = torch.cat([x_BLD, self.global_tokens.expand(x_BLD.shape[0], -1, -1)], dim=1)
        return run_blocks(self.blocks, x_BLD, self.checkpointing)
