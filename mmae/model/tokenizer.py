"""From pixels and class ids to tokens: one input adapter a modality.

Bachmann et al., "MultiMAE" (ECCV 2022), section 3.1: a linear projection of each patch plus its position.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmae.config.schema import ModelConfig
from mmae.modalities import MODALITIES, Modality
from mmae.model.posembed import position_embedding

CLASS_WIDTH: Final = 64
"""Width of a class embedding."""

ALIGNED: Final = 8
"""Numbers of 2 bytes in 16."""


class PatchProjection(nn.Conv2d):
    """A linear projection of each patch, and its rows for whoever multiplies patches itself."""

    def __init__(self, channels: int, dim: int, patch: int) -> None:
        super().__init__(channels, dim, kernel_size=patch, stride=patch)

    def forward(self, values: Tensor | None = None) -> Tensor:
        """(B, C, h, w) -> (B, D, rows, columns). Without values: kernels, flat, and biases behind them, (D, C p p + 1).

        The latter is a copy: where parameters are sharded, they are emptied when their module's forward ends.
        """
        if values is not None:
            return super().forward(values)
        assert self.bias is not None
        return torch.cat([self.weight.flatten(1), self.bias[:, None]], dim=1)


class ImageAdapter(nn.Module):
    """Continuous values (B, C, h, w), any floating dtype -> tokens (B, n, D) in the weights' dtype."""

    def __init__(self, modality: Modality, config: ModelConfig, dim: int, base_patch: int | None = None) -> None:
        super().__init__()
        self.proj = PatchProjection(len(modality.bands), dim, modality.patch(config.patch_size))
        self.positions = position_embedding(config, dim, "bicubic", base_patch=base_patch)

    def forward(self, values_BChw: Tensor, grid_hw: tuple[int, int] | None = None) -> Tensor:
        """`grid_hw` says the patches of an image of another size than the configuration's."""
        dtype = self.proj.weight.dtype
        patches_BDhw = self.proj(values_BChw.to(dtype))
        tokens_BnD: Tensor = patches_BDhw.flatten(2).transpose(1, 2) + self.positions(dtype, grid_hw)
        return tokens_BnD

    def rows(self) -> Tensor:
        """What `pixels` are multiplied with, biases in the last column: (D, P + 1)."""
        rows_DP: Tensor = self.proj()
        return rows_DP

    def pixels(self, values_BChw: Tensor, place_BK: Tensor) -> Tensor:
        """The numbers of the patches at these places, (B, K, P)."""
        return _patches(values_BChw, self.proj.kernel_size[0], place_BK).flatten(2)


class CategoricalAdapter(nn.Module):
    """Class ids int64 (B, h, w) -> tokens (B, n, D): each id is embedded, then patches are projected."""

    def __init__(self, modality: Modality, config: ModelConfig, dim: int, base_patch: int | None = None) -> None:
        super().__init__()
        self.class_emb = nn.Embedding(modality.num_classes, CLASS_WIDTH)
        self.proj = PatchProjection(CLASS_WIDTH, dim, modality.patch(config.patch_size))
        self.positions = position_embedding(config, dim, "bilinear", base_patch=base_patch)

    def forward(self, ids_Bhw: Tensor, grid_hw: tuple[int, int] | None = None) -> Tensor:
        """`grid_hw` says the patches of an image of another size than the configuration's."""
        embedded_BChw = self.class_emb(ids_Bhw).permute(0, 3, 1, 2)
        patches_BDhw = self.proj(embedded_BChw)
        positions_nD = self.positions(patches_BDhw.dtype, grid_hw)
        tokens_BnD: Tensor = patches_BDhw.flatten(2).transpose(1, 2) + positions_nD
        return tokens_BnD

    def rows(self) -> Tensor:
        """What `pixels` are multiplied with, biases in the last column: (D, P + 1).

        Each pixel of each class has a vector of its own: its embedding, projected. There are few of them.
        """
        kernels_DX: Tensor = self.proj()
        ids_k = torch.arange(self.class_emb.num_embeddings, device=kernels_DX.device)
        kernels_DCp = kernels_DX[:, :-1].reshape(len(kernels_DX), CLASS_WIDTH, -1)
        projected_Dkp = self.class_emb(ids_k) @ kernels_DCp
        return torch.cat([projected_Dkp.flatten(1), kernels_DX[:, -1:]], dim=1)

    def pixels(self, ids_Bhw: Tensor, place_BK: Tensor) -> Tensor:
        """For each class and each pixel of the patches at these places whether it is that class, bool (B, K, P)."""
        ids_BK1pp = _patches(ids_Bhw[:, None], self.proj.kernel_size[0], place_BK)
        ids_k = torch.arange(self.class_emb.num_embeddings, device=ids_Bhw.device)
        return (ids_BK1pp == ids_k[:, None, None]).flatten(2)


def _patches(values_BChw: Tensor, side: int, place_BK: Tensor) -> Tensor:
    """The patches at these places, (B, K, C, p, p)."""
    batch, channels, height, width = values_BChw.shape
    columns = width // side
    grid_BCrpcp = values_BChw.reshape(batch, channels, height // side, side, columns, side)
    tile_B1 = torch.arange(batch, device=place_BK.device)[:, None]
    chosen: Tensor = grid_BCrpcp[tile_B1, :, place_BK // columns, :, place_BK % columns, :]
    return chosen


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

    def forward(self, values: Mapping[str, Tensor], keep_BK: Tensor | None = None) -> Tensor:
        """All tokens (B, N, D): modality after modality in the config's order, row-major within each.

        Args:
            values: modality -> (B, C, h, w) floats or (B, h, w) int64 class ids; others than inputs are not read.
            keep_BK: int64, ids of tokens; only these are made, (B, K, D).
        """
        if keep_BK is not None:
            return self._kept(values, keep_BK)
        return torch.cat([adapter(values[name]) for name, adapter in self.adapters.items()], dim=1)

    def _kept(self, values: Mapping[str, Tensor], keep_BK: Tensor) -> Tensor:
        """One product over the tokens asked for: a token's row holds its own modality's patch, and 0 elsewhere."""
        adapters = cast("Mapping[str, ImageAdapter | CategoricalAdapter]", self.adapters)
        rows = [adapter.rows() for adapter in adapters.values()]
        dtype = rows[0].dtype
        positions_nD = [adapter.positions(dtype) for adapter in adapters.values()]
        modality_BK, place_BK = keep_BK // len(positions_nD[0]), keep_BK % len(positions_nD[0])
        zero = torch.zeros((), dtype=dtype, device=keep_BK.device)
        columns = []
        for number, (name, adapter) in enumerate(adapters.items()):
            pixels_BKP = adapter.pixels(values[name], place_BK).to(dtype)
            # A 1 for the bias. What no token of another modality may see is chosen, not multiplied: it may be NaN.
            with_one_BKP = functional.pad(pixels_BKP, (0, 1), value=1)
            columns.append(torch.where((modality_BK == number)[:, :, None], with_one_BKP, zero))
        # Rows of a multiple of 16 bytes: fast kernels need them.
        spare = -sum(row.shape[1] for row in rows) % ALIGNED
        inputs_BKP = functional.pad(torch.cat(columns, dim=2), (0, spare))
        kernels_DP = functional.pad(torch.cat(rows, dim=1), (0, spare))
        tokens_BKD = functional.linear(inputs_BKP, kernels_DP)
        return tokens_BKD + functional.embedding(keep_BK, torch.cat(positions_nD))
