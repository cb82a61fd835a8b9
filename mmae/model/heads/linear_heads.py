"""One linear layer: on a vector of the tile, or on each token for the pixels of its patch."""

from __future__ import annotations

from typing import Final, Literal

from torch import Tensor, nn
from torch.nn import functional

from mmae.errors import InputError
from mmae.model.heads.block_outputs import BlockOutputs
from mmae.model.heads.head import EncoderShape, Head, MapNorm
from mmae.model.layers import NORM_EPS

_OUTPUT_STD: Final = 0.01
"""Of the last layer's first weights: outputs start near 0."""


def output_layer(width: int, outputs: int) -> nn.Linear:
    """The last layer of a head; its first weights are small."""
    layer = nn.Linear(width, outputs)
    nn.init.trunc_normal_(layer.weight, std=_OUTPUT_STD)
    nn.init.zeros_(layer.bias)
    return layer


class LinearHead(Head):
    """Layer norm and one linear layer on the mean of the tokens with data, or of the global tokens."""

    def __init__(
        self, blocks: tuple[int, ...], encoder: EncoderShape, outputs: int, pooling: Literal["mean", "global"]
    ) -> None:
        super().__init__(blocks, dense=False)
        if pooling == "global" and not encoder.num_global_tokens:
            raise InputError("head.pooling=global: this model has no global token: say mean")
        self.pooling = pooling
        self.norm = nn.LayerNorm(encoder.dim, eps=NORM_EPS)
        self.linear = output_layer(encoder.dim, outputs)

    def forward(self, encoded: BlockOutputs) -> Tensor:
        vector_BD = encoded.pooled() if self.pooling == "mean" else encoded.global_tokens[-1].mean(1)
        out_BK: Tensor = self.linear(self.norm(vector_BD))
        return out_BK


class PatchLinearHead(Head):
    """Layer norm and one linear layer a token, which sees no other: (B, D, h, w) -> (B, K, h x p, w x p)."""

    def __init__(self, blocks: tuple[int, ...], encoder: EncoderShape, outputs: int) -> None:
        super().__init__(blocks, dense=True)
        self.patch_size = encoder.patch_size
        self.norm = MapNorm(encoder.dim)
        self.linear = output_layer(encoder.dim, outputs * encoder.patch_size**2)

    def forward(self, encoded: BlockOutputs) -> Tensor:
        normal_BhwD = self.norm(encoded.maps[-1]).permute(0, 2, 3, 1)
        return functional.pixel_shuffle(self.linear(normal_BhwD).permute(0, 3, 1, 2), self.patch_size)
