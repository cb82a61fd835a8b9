"""The encoder of a multi-modal masked autoencoder as one module, for tools that know nothing of its training.

`encoder.json` beside this file says what the inputs are, `model.safetensors` holds the weights. torch, timm and
safetensors are needed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from safetensors.torch import load_file
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional

NORM_EPS: Final = 1e-6


class Encoded(NamedTuple):
    """The output of one block.

    Attributes:
        maps: modality -> (B, D, h, w) over the grid of patches.
        global_tokens: (B, G, D); G may be 0.
    """

    maps: dict[str, Tensor]
    global_tokens: Tensor


class PlainEncoder(nn.Module):
    """Normalised images of any of its modalities, of one size that divides into patches -> every block's output.

    Args:
        folder: holds `encoder.json` and `model.safetensors`; by default the folder of this file.
        pretrained: read the weights, strictly; without them every weight is random.
    """

    def __init__(self, folder: str | Path | None = None, pretrained: bool = True) -> None:
        super().__init__()
        folder = Path(folder or Path(__file__).parent)
        self.table: dict[str, Any] = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
        self.patch_size: int = self.table["patch_size"]
        self.bands: dict[str, list[str]] = {name: row["bands"] for name, row in self.table["inputs"].items()}
        variant = self.table["variant"]
        self.width: int = variant["dim"]
        self.projections = nn.ModuleDict({name: self._projection(len(bands)) for name, bands in self.bands.items()})
        base_hw = tuple(self.table["positions_hw"])
        self.positions = nn.ParameterDict(
            {name: nn.Parameter(torch.zeros(self.width, *base_hw), requires_grad=False) for name in self.bands}
        )
        self.global_tokens = nn.Parameter(torch.randn(self.table["num_global_tokens"], self.width) * 0.02)
        self.blocks = nn.ModuleList([_block(variant) for _ in range(variant["depth"])])
        if pretrained:
            self.load_state_dict(load_file(folder / "model.safetensors"))

    def forward(self, images: Mapping[str, Tensor]) -> list[Encoded]:
        """Modality -> (B, C, H, W) normalised floats; the outputs of the blocks, from first to last."""
        names = [name for name in self.bands if name in images]
        if not names or len(names) != len(images):
            raise ValueError(f"the inputs are {', '.join(self.bands)}; got {', '.join(images) or 'none'}")
        tokens, grid_hw = [], (0, 0)
        for name in names:
            patches_BDhw = self.projections[name](images[name])
            grid_hw = (patches_BDhw.shape[-2], patches_BDhw.shape[-1])
            tokens.append((patches_BDhw + self._positions(name, grid_hw)).flatten(2).transpose(1, 2))
        count = sum(each.shape[1] for each in tokens)
        x_BLD = torch.cat([*tokens, self.global_tokens.expand(len(tokens[0]), -1, -1)], dim=1)
        outputs = []
        for block in self.blocks:
            x_BLD = block(x_BLD)
            maps = x_BLD[:, :count].transpose(1, 2).unflatten(2, (len(names), *grid_hw)).unbind(2)
            outputs.append(Encoded(dict(zip(names, maps, strict=True)), x_BLD[:, count:]))
        return outputs

    def split(self, image_BCHW: Tensor) -> dict[str, Tensor]:
        """An image whose channels are the bands of all modalities, one modality after the other, in their order."""
        sizes = [len(bands) for bands in self.bands.values()]
        if image_BCHW.shape[1] != sum(sizes):
            listed = ", ".join(band for bands in self.bands.values() for band in bands)
            raise ValueError(f"the image has {image_BCHW.shape[1]} channels; the bands are {listed}")
        return dict(zip(self.bands, torch.split(image_BCHW, sizes, dim=1), strict=True))

    def _projection(self, channels: int) -> nn.Conv2d:
        return nn.Conv2d(channels, self.width, kernel_size=self.patch_size, stride=self.patch_size)

    def _positions(self, name: str, grid_hw: tuple[int, int]) -> Tensor:
        """(D, h, w): resampled exactly as in training, which never smooths."""
        base_1Dhw = self.positions[name][None]
        return functional.interpolate(base_1Dhw, size=grid_hw, mode="bicubic", align_corners=False, antialias=False)[0]


def _block(variant: Mapping[str, int]) -> nn.Module:
    dim, hidden = variant["dim"], variant["mlp_dim"]
    # timm truncates the product of ratio and width: half a unit keeps it from falling one short.
    ratio, norm = (hidden + 0.5) / dim, partial(nn.LayerNorm, eps=NORM_EPS)
    block: nn.Module = Block(dim, variant["num_heads"], mlp_ratio=ratio, qkv_bias=True, norm_layer=norm)
    return block
