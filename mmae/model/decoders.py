"""The decoders, one an output, run as one batched computation over stacked weights.

Bachmann et al., "MultiMAE" (ECCV 2022), section 3.3: queries of the output's own modality read all visible tokens by
one cross-attention, then an MLP and a few blocks, then a projection to pixels.

A decoder alone is little work (50 queries of width 128), so that seven in turn would be bound by kernel launches.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmae.config.schema import ModelConfig
from mmae.modalities import output_source
from mmae.model.layers import (
    SharedInputLinear,
    StackedBlock,
    StackedCrossAttention,
    StackedLayerNorm,
    StackedLinear,
    StackedMlp,
)
from mmae.model.posembed import position_embedding
from mmae.model.recompute import Recompute, run_blocks
from mmae.model.short_attention.applicable import kernel_here


def _homes(config: ModelConfig) -> list[int]:
    """Place of each output's modality among the inputs; M, which no token has, where it is not an input."""
    inputs = config.in_domains
    sources = [output_source(output).name for output in config.outputs]
    return [inputs.index(name) if name in inputs else len(inputs) for name in sources]


def chosen(rows_Ord: Tensor, index_BK: Tensor) -> Tensor:
    """Of each decoder's rows (O, r, d), those that an index names: (O, B, K, d)."""
    # A product with indicators is exact, and its backward pass needs neither sorting nor atomic additions.
    indicator_BKr = (index_BK[:, :, None] == torch.arange(rows_Ord.shape[1], device=index_BK.device)).to(rows_Ord.dtype)
    chosen_Ond = indicator_BKr.flatten(0, 1) @ rows_Ord
    return chosen_Ond.view(-1, *index_BK.shape, rows_Ord.shape[-1])


class Decoders(nn.Module):
    """All decoders; the stack axis O is in the order of `config.outputs`."""

    home_O: Tensor

    def __init__(self, config: ModelConfig, dim: int, recompute: Recompute) -> None:
        super().__init__()
        stack, width, heads = len(config.outputs), config.decoder_dim, config.decoder_num_heads
        kernel = kernel_here(config.attention)
        self.recompute = recompute
        self.patch_size, self.places = config.patch_size, config.tokens_per_modality
        self.outputs = config.outputs
        self.register_buffer("home_O", torch.tensor(_homes(config), device="cpu"), persistent=False)
        self.learned_positions = config.positions == "learned"
        self.positions = position_embedding(config, width, "bilinear", stack=(stack,))
        self.mask_token = nn.Parameter(torch.zeros(stack, width))
        self.task_embeddings = nn.Parameter(torch.zeros(stack, len(config.in_domains), width))
        self.proj_context = SharedInputLinear(stack, dim, width)
        self.query_norm = StackedLayerNorm(stack, width)
        self.context_norm = StackedLayerNorm(stack, width)
        self.cross_attention = StackedCrossAttention(stack, width, heads, kernel)
        self.out_norm = StackedLayerNorm(stack, width)
        self.mlp = StackedMlp(stack, width)
        self.blocks = nn.ModuleList([StackedBlock(stack, width, heads, kernel) for _ in range(config.decoder_depth)])
        self.out_proj = nn.ModuleDict({name: nn.Linear(width, self._patch_values(name)) for name in config.outputs})
        for module in self.modules():
            if isinstance(module, StackedLinear):
                module.lean = config.lean

    def _patch_values(self, output: str) -> int:
        source = output_source(output)
        return source.channels * source.patch(self.patch_size) ** 2

    def forward(self, encoded_BLD: Tensor, keep_BK: Tensor) -> dict[str, Tensor]:
        """Predictions of each output, (B, n, C, p, p) in the compute dtype.

        Args:
            encoded_BLD: the encoder's output, visible tokens in the order of `keep_BK`, then global tokens.
            keep_BK: int64, ids of the visible tokens among all N.
        """
        modality_BK, place_BK = keep_BK // self.places, keep_BK % self.places
        positions = self.positions(encoded_BLD.dtype)
        memory_OBLd = self.proj_context(encoded_BLD)
        visible_OBKd, global_OBGd = memory_OBLd.tensor_split([keep_BK.shape[1]], dim=2)
        visible_OBKd = visible_OBKd + chosen(self.task_embeddings, modality_BK) + self._at(positions, place_BK)
        context_OBLd = torch.cat([visible_OBKd, global_OBGd], dim=2)
        queries_OBnd = self._queries(visible_OBKd, modality_BK, place_BK, positions)
        # No residual around the cross-attention.
        x_OBnd = self.cross_attention(self.query_norm(queries_OBnd), self.context_norm(context_OBLd))
        x_OBnd = x_OBnd + self.mlp(self.out_norm(x_OBnd))
        x_OBnd = run_blocks(self.blocks, x_OBnd, self.recompute)
        return {name: self._project(name, x_Bnd) for name, x_Bnd in zip(self.outputs, x_OBnd.unbind(0), strict=True)}

    def _at(self, positions: Tensor, place_BK: Tensor) -> Tensor:
        """The positions of the places, ((O,) B, K, d)."""
        return chosen(positions, place_BK) if self.learned_positions else positions[place_BK]

    def _queries(self, visible_OBKd: Tensor, modality_BK: Tensor, place_BK: Tensor, positions: Tensor) -> Tensor:
        """All places of each output's own modality, (O, B, n, d): its visible tokens, mask tokens elsewhere.

        Args:
            positions: fixed (n, d), or learned (O, n, d).
        """
        masked_Ond = (self.mask_token + self._own_embeddings())[:, None] + positions
        # One place more takes the visible tokens of all other modalities, and is cut off.
        masked_Ond = torch.cat([masked_Ond, torch.zeros_like(masked_Ond[:, :1])], dim=1)
        own_OBK = modality_BK == self.home_O[:, None, None]
        target_OBK = torch.where(own_OBK, place_BK, self.places)
        queries_OBnd = masked_Ond[:, None].expand(-1, visible_OBKd.shape[1], -1, -1)
        return queries_OBnd.scatter(2, target_OBK[..., None].expand_as(visible_OBKd), visible_OBKd)[:, :, :-1]

    def _own_embeddings(self) -> Tensor:
        """Each output's embedding of its own modality, (O, d).

        It is 0 for an output that is not an input: all its queries are mask tokens, which can learn the same.
        """
        modalities_M = torch.arange(self.task_embeddings.shape[1], device=self.home_O.device)
        own_OM = (self.home_O[:, None] == modalities_M).to(self.task_embeddings.dtype)
        return (own_OM[:, :, None] * self.task_embeddings).sum(dim=1)

    def _project(self, output: str, x_Bnd: Tensor) -> Tensor:
        source = output_source(output)
        side = source.patch(self.patch_size)
        patches: Tensor = self.out_proj[output](x_Bnd)
        return patches.view(*x_Bnd.shape[:-1], source.channels, side, side)
