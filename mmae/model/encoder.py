"""The encoder: a pre-norm ViT over the visible tokens of all modalities, and the global tokens behind them.

Dosovitskiy et al., "An Image is Worth 16x16 Words" (ICLR 2021), section 3.1; no norm after the last block.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn

from mmae.config.schema import ModelConfig
from mmae.model.block import EncoderBlock, TokenLinear
from mmae.model.recompute import Recompute, run_blocks
from mmae.model.short_attention.applicable import kernel_here
from mmae.model.tokenizer import Tokenizer
from mmae.variants import Variant

HEAD: Final = "head."
"""Begins the names of the weights of a fine-tuned model's head."""


def drop_path_rates(last: float, depth: int, device: torch.device | None = None) -> Tensor:
    """Stochastic depth, growing linearly from 0 at the first block (Huang et al., ECCV 2016, section 3): (depth,)."""
    return torch.linspace(0, last, depth, device=device)


class Encoder(nn.Module):
    """Visible tokens in, encoded visible and global tokens out."""

    def __init__(self, config: ModelConfig, variant: Variant, recompute: Recompute) -> None:
        super().__init__()
        self.recompute = recompute
        # Without global tokens there is no parameter: sharding optimisers do not take empty ones.
        shape = (config.num_global_tokens, variant.dim)
        self.global_tokens = nn.Parameter(torch.zeros(shape)) if config.num_global_tokens else None
        self.drop_path = config.drop_path
        kernel = kernel_here(config.attention)
        self.blocks = nn.ModuleList([EncoderBlock(variant, kernel) for _ in range(variant.depth)])
        for module in self.modules():
            if isinstance(module, TokenLinear):
                module.lean = config.lean

    def forward(self, tokens_BND: Tensor, keep_BK: Tensor | None, depth: int | None = None) -> Tensor:
        """All tokens (B, N, D), ids of the visible ones (B, K) -> (B, L, D): those as listed, then global ones.

        Args:
            keep_BK: None: all are visible.
            depth: run only this number of blocks.
        """
        if keep_BK is not None:
            tokens_BND = tokens_BND.gather(1, keep_BK[:, :, None].expand(-1, -1, tokens_BND.shape[-1]))
        return self.encode(tokens_BND, depth)

    def encode(self, x_BKD: Tensor, depth: int | None = None) -> Tensor:
        """Tokens that are all visible (B, K, D) -> (B, L, D), the global ones behind them."""
        x_BLD = self._with_global_tokens(x_BKD)
        # A slice is a new list of modules, which a compiled or sharded model shall not meet in training.
        blocks = self.blocks if depth in {None, len(self.blocks)} else self.blocks[:depth]
        return run_blocks(blocks, x_BLD, self.recompute, self._drop_paths(x_BLD))

    def _with_global_tokens(self, x_BKD: Tensor) -> Tensor:
        if self.global_tokens is None:
            return x_BKD
        return torch.cat([x_BKD, self.global_tokens.expand(x_BKD.shape[0], -1, -1)], dim=1)

    def encode_blocks(self, x_BKD: Tensor, numbers: Sequence[int], draws_B2: Tensor | None = None) -> list[Tensor]:
        """As `encode`, with the output (B, L, D) of each of the blocks `numbers`, which rise from 0.

        Args:
            draws_B2: uniform numbers (B, 2 x depth) that decide which branches of each sample are left out; None: the
                device's generator draws them.
        """
        x_BLD = self._with_global_tokens(x_BKD)
        drops, outputs, first = self._drop_paths(x_BLD, draws_B2), [], 0
        for number in numbers:
            x_BLD = run_blocks(self.blocks, x_BLD, self.recompute, drops, range(first, number + 1))
            outputs.append(x_BLD)
            first = number + 1
        return outputs

    def _drop_paths(self, x_BLD: Tensor, draws_B2: Tensor | None = None) -> list[tuple[Tensor | None]]:
        """For each block: what its two branches are multiplied with, (2, B, 1, 1), or None to leave them alone.

        One draw serves all blocks: a small kernel for each of two branches of dozens of blocks costs more to start
        than to run.
        """
        depth = len(self.blocks)
        if not self.training or self.drop_path == 0:
            return [(None,)] * depth
        rates = drop_path_rates(self.drop_path, depth, x_BLD.device)[:, None, None]
        if draws_B2 is None:
            draws = torch.rand(depth, 2, x_BLD.shape[0], device=x_BLD.device)
        else:
            draws = draws_B2.T.view(depth, 2, -1)
        scales = torch.where(draws < rates, 0.0, 1 / (1 - rates)).to(x_BLD.dtype)
        return [(scale_2B[..., None, None],) for scale_2B in scales.unbind(0)]


class EncoderModel(nn.Module):
    """What every model has: input adapters and an encoder. Pretrained ones have decoders too, fine-tuned ones a head.

    Attributes:
        config: the model's configuration, already checked.
        variant: the encoder's size.
        tokenizer: from values to tokens; its `table` says what each input is.
        encoder: from tokens to encoded tokens.
    """

    config: ModelConfig
    variant: Variant
    tokenizer: Tokenizer
    encoder: Encoder
