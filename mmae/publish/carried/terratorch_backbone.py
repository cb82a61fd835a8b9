"""A backbone for TerraTorch: `mmae_encoder`, one map a block. `custom_modules_path` names the folder of this file."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from terratorch.registry import TERRATORCH_BACKBONE_REGISTRY
from torch import Tensor, nn

from mmae.publish.carried.plain_encoder import PlainEncoder


class MmaeBackbone(nn.Module):
    """Normalised images -> one map (B, D, h, w) a block: the mean over the modalities' maps.

    Args:
        pretrained: read the weights beside this file.
        folder: of other weights of this kind.
    """

    def __init__(self, pretrained: bool = True, folder: str | None = None) -> None:
        super().__init__()
        self.encoder = PlainEncoder(folder, pretrained)
        self.patch_size = self.encoder.patch_size
        self.out_channels = [self.encoder.width] * len(self.encoder.blocks)

    def forward(self, image: Tensor | Mapping[str, Tensor]) -> list[Tensor]:
        """Modality -> (B, C, H, W), or one image with the bands of all modalities as its channels."""
        images = image if isinstance(image, Mapping) else self.encoder.split(image)
        return [torch.stack([*block.maps.values()]).mean(0) for block in self.encoder(images)]


@TERRATORCH_BACKBONE_REGISTRY.register  # type: ignore[untyped-decorator]
def mmae_encoder(pretrained: bool = True, folder: str | None = None) -> MmaeBackbone:
    """See `MmaeBackbone`."""
    return MmaeBackbone(pretrained, folder)
