"""Four maps of one size as a pyramid: 4, 2, 1 and 1/2 times the grid of patches, as Li et al., "Exploring Plain Vision
Transformer Backbones for Object Detection" (ECCV 2022), make one of a plain ViT."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mmae.model.heads.head import MapNorm, group_norm


class Pyramid(nn.Module):
    """Maps (B, D, h, w) of four blocks -> maps (B, D, ., .) from fine to coarse, each with a norm of its own."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([MapNorm(dim) for _ in range(4)])
        self.scales = nn.ModuleList(
            [
                nn.Sequential(_doubled(dim), group_norm(dim), nn.GELU(), _doubled(dim)),
                _doubled(dim),
                nn.Identity(),
                # Odd sides are rounded up: a map of one patch stays one.
                nn.MaxPool2d(2, ceil_mode=True),
            ]
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        return [scale(norm(each)) for scale, norm, each in zip(self.scales, self.norms, maps, strict=True)]


def _doubled(dim: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(dim, dim, kernel_size=2, stride=2)
