"""From pixels and class ids to tokens: one input adapter a modality.

Bachmann et al., "MultiMAE" (ECCV 2022), section 3.1: a linear projection of each patch plus its position.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor, nn

from mmae.config.schema import ModelConfig
from mmae.modalities import MODALITIES, Modality
from mmae.model.posembed import position_embedding

CLASS_WIDTH: Final = 64
"""Width of a class embedding."""


class ImageAdapter(nn.Module):
    """Continuous values (B, C, h, w), any floating dtype -> tokens (B, n, D) in the weights' dtype."""

    def __init__(self, modality: Modality, config: ModelConfig, dim: int, base_patch: int | None = None) -> None:
        super().__init__()
        patch = modality.patch(config.patch_size)
        self.proj = nn.Conv2d(len(modality.bands), dim, kernel_size=patch, stride=patch)
        self.positions = position_embedding(config, dim, "bicubic", base_patch=base_patch)

    def forward(self, values_BChw: Tensor, grid_hw: tuple[int, int] | None = None) -> Tensor:
        """`grid_hw` says the patches of an image of another size than the configuration's."""
        dtype = self.proj.weight.dtype
        patches_BDhw = self.proj(values_BChw.to(dtype))
        tokens_BnD: Tensor = patches_BDhw.flatten(2).transpose(1, 2) + self.positions(dtype, grid_hw)
        return tokens_BnD


class CategoricalAdapter(nn.Module):
    """Class ids int64 (B, h, w) -> tokens (B, n, D): each id is embedded, then patches are projected."""

    def __init__(self, modality: Modality, config: ModelConfig, dim: int, base_patch: int | None = None) -> None:
        super().__init__()
        patch = modality.patch(config.patch_size)
        self.class_emb = nn.Embedding(modality.num_classes, CLASS_WIDTH)
        self.proj = nn.Conv2d(CLASS_WIDTH, dim, kernel_size=patch, stride=patch)
        self.positions = position_embedding(config, dim, "bilinear", base_patch=base_patch)

    def forward(self, ids_Bhw: Tensor, grid_hw: tuple[int, int] | None = None) -> Tensor:
        """`grid_hw` says the patches of an image of another size than the configuration's."""
        embedded_BChw = self.class_emb(ids_Bhw).permute(0, 3, 1, 2)
        patches_BDhw = self.proj(embedded_BChw)
        positions_nD = self.positions(patches_BDhw.dtype, grid_hw)
        tokens_BnD: Tensor = patches_BDhw.flatten(2).transpose(1, 2) + positions_nD
        return tokens_BnD


def _adapter(modality: Modality, config: ModelConfig, dim: int, base_patch: int | None) -> nn.Module:
    return (CategoricalAdapter if modality.categorical else ImageAdapter)(modality, config, dim, base_patch)


class Tokenizer(nn.Module):
    """The input adapters of all input modalities.

    Attributes:
        table: what each input modality is; its `bands` are the channels of its input.

    Args:
        table: where the inputs' modalities are looked up.
        base_patch: see `position_embedding`.
    """

    def __init__(
        self,
        config: ModelConfig,
        dim: int,
        table: Mapping[str, Modality] = MODALITIES,
        base_patch: int | None = None,
    ) -> None:
        super().__init__()
        self.table = {name: table[name] for name in config.in_domains}
        self.adapters = nn.ModuleDict(
            {name: _adapter(modality, config, dim, base_patch) for name, modality in self.table.items()}
        )

    def forward(self, values: Mapping[str, Tensor]) -> Tensor:
        """Tokens (B, N, D): modality after modality in the config's order, row-major within each.

        Args:
            values: modality -> (B, C, h, w) floats or (B, h, w) int64 class ids; others than inputs are not read.
        """
        return torch.cat([adapter(values[name]) for name, adapter in self.adapters.items()], dim=1)
