"""What every head is: a module from the encoder's output to (B, K), or (B, K, H, W)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from torch import Tensor, nn
from torch.nn import functional

from mmae.model.encoder import EncoderModel
from mmae.model.heads.block_outputs import BlockOutputs
from mmae.model.layers import NORM_EPS

_MOST_GROUPS: Final = 32
_FEWEST_CHANNELS: Final = 8


@dataclass(frozen=True)
class EncoderShape:
    """What a head must know of its encoder."""

    dim: int
    depth: int
    num_heads: int
    num_global_tokens: int
    patch_size: int

    @classmethod
    def of(cls, model: EncoderModel) -> EncoderShape:
        variant, config = model.variant, model.config
        return cls(variant.dim, variant.depth, variant.num_heads, config.num_global_tokens, config.patch_size)


class Head(nn.Module):
    """A head.

    Attributes:
        blocks: the encoder blocks that it reads: `block_outputs(model, values, mask, head.blocks)`.
        dense: whether it gives (B, K, H, W), with `patch_size` pixels a side of a patch, or (B, K).
    """

    def __init__(self, blocks: tuple[int, ...], dense: bool) -> None:
        super().__init__()
        self.blocks, self.dense = blocks, dense

    def forward(self, encoded: BlockOutputs) -> Tensor:
        """Outputs in the weights' dtype."""
        raise NotImplementedError


class MapNorm(nn.LayerNorm):
    """Layer norm over the channels of a map, (B, D, h, w) -> (B, D, h, w): the encoder ends without a norm."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, eps=NORM_EPS)

    def forward(self, x_BDhw: Tensor) -> Tensor:
        return super().forward(x_BDhw.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def group_norm(channels: int) -> nn.GroupNorm:
    """Unlike batch norm, it does not depend on how a batch is divided among processes."""
    # A group of one channel would turn the mean of a whole map into 0.
    most = max(1, min(_MOST_GROUPS, channels // _FEWEST_CHANNELS))
    groups = next(count for count in range(most, 0, -1) if channels % count == 0)
    return nn.GroupNorm(groups, channels)


def resized(x_BCHW: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear; the same tensor if it has the size."""
    if tuple(x_BCHW.shape[-2:]) == size:
        return x_BCHW
    return functional.interpolate(x_BCHW, size=size, mode="bilinear", align_corners=False)


def pixels_of(map_BDhw: Tensor, patch_size: int) -> tuple[int, int]:
    """Height and width of the image that a map's patches make up."""
    return map_BDhw.shape[-2] * patch_size, map_BDhw.shape[-1] * patch_size
