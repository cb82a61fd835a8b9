"""DPT: Ranftl, Bochkovskiy and Koltun, "Vision Transformers for Dense Prediction" (ICCV 2021), on four blocks."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from mmae.model.heads.block_outputs import BlockOutputs
from mmae.model.heads.head import EncoderShape, Head, pixels_of, resized
from mmae.model.heads.pyramid import Pyramid


class DptHead(Head):
    """Maps of four sizes are brought to one width and fused from coarse to fine by residual convolutions."""

    def __init__(self, blocks: tuple[int, ...], encoder: EncoderShape, outputs: int, width: int) -> None:
        super().__init__(blocks, dense=True)
        self.patch_size = encoder.patch_size
        self.pyramid = Pyramid(encoder.dim)
        self.to_width = nn.ModuleList([_conv(encoder.dim, width) for _ in range(4)])
        self.fusions = nn.ModuleList([Fusion(width, coarsest=number == 3) for number in range(4)])
        half = max(1, width // 2)
        self.narrow = nn.Conv2d(width, half, kernel_size=3, padding=1)
        self.out = nn.Sequential(_conv(half, half, bias=True), nn.ReLU(), nn.Conv2d(half, outputs, kernel_size=1))

    def forward(self, encoded: BlockOutputs) -> Tensor:
        maps = [conv(each) for conv, each in zip(self.to_width, self.pyramid(encoded.maps), strict=True)]
        fused_BCHW = None
        for fusion, map_BCHW in reversed(list(zip(self.fusions, maps, strict=True))):
            fused_BCHW = fusion(map_BCHW, fused_BCHW)
        size = pixels_of(encoded.maps[-1], self.patch_size)
        out_BKHW: Tensor = self.out(resized(self.narrow(fused_BCHW), size))
        return out_BKHW


class Fusion(nn.Module):
    """A map, and the coarser result that is brought to its size: (B, C, H, W)."""

    def __init__(self, width: int, coarsest: bool) -> None:
        super().__init__()
        # Processes that train together need a gradient of every weight, so the coarsest has none without a use.
        self.of_map = None if coarsest else ResidualConvs(width)
        self.of_sum = ResidualConvs(width)
        self.mix = nn.Conv2d(width, width, kernel_size=1)

    def forward(self, map_BCHW: Tensor, coarser_BCHW: Tensor | None) -> Tensor:
        if self.of_map is not None and coarser_BCHW is not None:
            size = (map_BCHW.shape[-2], map_BCHW.shape[-1])
            map_BCHW = self.of_map(map_BCHW) + resized(coarser_BCHW, size)
        mixed_BCHW: Tensor = self.mix(self.of_sum(map_BCHW))
        return mixed_BCHW


class ResidualConvs(nn.Module):
    """Two convolutions of 3 x 3 pixels beside an identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = _conv(width, width, bias=True), _conv(width, width, bias=True)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        out_BCHW: Tensor = self.second(functional.relu(self.first(functional.relu(x_BCHW))))
        return x_BCHW + out_BCHW


def _conv(channels: int, width: int, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(channels, width, kernel_size=3, padding=1, bias=bias)
