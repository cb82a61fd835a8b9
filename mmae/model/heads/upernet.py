"""UPerNet: Xiao et al., "Unified Perceptual Parsing for Scene Understanding" (ECCV 2018), on four blocks of a ViT."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmae.model.heads.block_outputs import BlockOutputs
from mmae.model.heads.head import EncoderShape, Head, group_norm, pixels_of, resized
from mmae.model.heads.pyramid import Pyramid

_POOLED_SIDES: Final = (1, 2, 3, 6)


class UPerNetHead(Head):
    """Pooled context on the coarsest map, torchvision's feature pyramid over all, and all levels fused at the finest.

    Norms are group norms. Levels are added by torchvision's nearest neighbours, where the paper interpolates.
    """

    def __init__(self, blocks: tuple[int, ...], encoder: EncoderShape, outputs: int, width: int) -> None:
        super().__init__(blocks, dense=True)
        from torchvision.ops import FeaturePyramidNetwork

        dim = encoder.dim
        self.patch_size = encoder.patch_size
        self.pyramid = Pyramid(dim)
        self.context = PooledContext(dim, width)
        self.levels = FeaturePyramidNetwork([dim, dim, dim, width], width, norm_layer=group_norm)
        self.fuse = normed_conv(4 * width, width, 3)
        self.out = nn.Conv2d(width, outputs, kernel_size=1)

    def forward(self, encoded: BlockOutputs) -> Tensor:
        *finer, coarsest = self.pyramid(encoded.maps)
        levels = self.levels(dict(zip("0123", [*finer, self.context(coarsest)], strict=True)))
        size = (finer[0].shape[-2], finer[0].shape[-1])
        fused_BCHW = self.fuse(torch.cat([resized(each, size) for each in levels.values()], dim=1))
        return resized(self.out(fused_BCHW), pixels_of(encoded.maps[-1], self.patch_size))


class PooledContext(nn.Module):
    """Means over 1, 2, 3 and 6 parts a side join the map (Zhao et al., "Pyramid Scene Parsing Network", CVPR 2017)."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList([normed_conv(dim, width, 1) for _ in _POOLED_SIDES])
        self.join = normed_conv(dim + len(_POOLED_SIDES) * width, width, 3)

    def forward(self, map_BDhw: Tensor) -> Tensor:
        size = (map_BDhw.shape[-2], map_BDhw.shape[-1])
        pooled = [
            resized(branch(functional.adaptive_avg_pool2d(map_BDhw, side)), size)
            for branch, side in zip(self.branches, _POOLED_SIDES, strict=True)
        ]
        joined_BCHW: Tensor = self.join(torch.cat([map_BDhw, *pooled], dim=1))
        return joined_BCHW


def normed_conv(channels: int, width: int, side: int) -> nn.Sequential:
    """A convolution that keeps the size, group norm and ReLU."""
    conv = nn.Conv2d(channels, width, kernel_size=side, padding=side // 2, bias=False)
    return nn.Sequential(conv, group_norm(width), nn.ReLU())
