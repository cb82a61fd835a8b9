"""The ConvNeXt head of MultiMAE (Bachmann et al., ECCV 2022, section 4): a token is split into parts of its patch."""

from __future__ import annotations

from typing import Final

from torch import Tensor, nn
from torch.nn import functional

from mmae.errors import InputError
from mmae.model.heads.block_outputs import BlockOutputs
from mmae.model.heads.head import EncoderShape, Head, MapNorm, pixels_of, resized

DEPTH: Final = 4
_PARTS: Final = 4
"""Parts a side of a patch; a patch of fewer pixels has a part a pixel."""


class ConvNextHead(Head):
    """One linear layer to `width` numbers a patch, shared by 4 x 4 parts, then four ConvNeXt blocks (timm's)."""

    def __init__(self, blocks: tuple[int, ...], encoder: EncoderShape, outputs: int, width: int) -> None:
        super().__init__(blocks, dense=True)
        from timm.models.convnext import ConvNeXtBlock

        self.patch_size, self.parts = encoder.patch_size, min(_PARTS, encoder.patch_size)
        channels, left = divmod(width, self.parts**2)
        if left or not channels:
            raise InputError(f"head.width={width}: it is shared by {self.parts**2} parts: give a multiple")
        self.norm = MapNorm(encoder.dim)
        self.proj = nn.Conv2d(encoder.dim, width, kernel_size=1)
        # Without a layer scale, whose first value of 1e-6 needs a long training.
        self.convs = nn.Sequential(*(ConvNeXtBlock(channels, ls_init_value=None) for _ in range(DEPTH)))
        self.out = nn.Conv2d(channels, outputs, kernel_size=1)

    def forward(self, encoded: BlockOutputs) -> Tensor:
        map_BDhw = encoded.maps[-1]
        parts_BCHW = functional.pixel_shuffle(self.proj(self.norm(map_BDhw)), self.parts)
        return resized(self.out(self.convs(parts_BCHW)), pixels_of(map_BDhw, self.patch_size))
