"""The same model in its plainest form, as a reference: one decoder after another, attention in three steps.

Parameters have their published names. So the fast model's weights can be loaded, and a test compares both models.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmae.config.schema import ModelConfig
from mmae.modalities import MODALITIES, output_source
from mmae.model.layers import MLP_RATIO, NORM_EPS
from mmae.model.posembed import PositionEmbedding
from mmae.model.tokenizer import CLASS_WIDTH
from mmae.types import MaskPlan, ModelOutput
from mmae.variants import Variant


def _attention(query: Tensor, key: Tensor, value: Tensor, num_heads: int) -> Tensor:
    def heads(x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], num_heads, -1).transpose(1, 2)

    query, key, value = heads(query), heads(key), heads(value)
    weights = (query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5).softmax(dim=-1)
    out: Tensor = (weights @ value).transpose(1, 2).flatten(2)
    return out


class _SelfAttention(nn.Module):
    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).chunk(3, dim=-1)
        out: Tensor = self.proj(_attention(query, key, value, self.num_heads))
        return out


class _CrossAttention(nn.Module):
    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        key, value = self.kv(context).chunk(2, dim=-1)
        out: Tensor = self.proj(_attention(self.q(x), key, value, self.num_heads))
        return out


class _Mlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(self.act(self.fc1(x)))
        return out


class _Block(nn.Module):
    def __init__(self, width: int, num_heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.attn = _SelfAttention(width, num_heads)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = _Mlp(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class _InputAdapter(nn.Module):
    def __init__(self, name: str, config: ModelConfig, dim: int) -> None:
        super().__init__()
        modality = MODALITIES[name]
        patch = modality.patch(config.patch_size)
        channels = CLASS_WIDTH if modality.categorical else len(modality.bands)
        self.class_emb = nn.Embedding(modality.num_classes, CLASS_WIDTH) if modality.categorical else None
        self.proj = nn.Conv2d(channels, dim, kernel_size=patch, stride=patch)
        mode = "bilinear" if modality.categorical else "bicubic"
        self.pos_emb = PositionEmbedding(dim, config.patch_size, config.grid_hw, mode)  # type: ignore[arg-type]

    def forward(self, values: Tensor) -> Tensor:
        if self.class_emb is not None:
            values = self.class_emb(values).permute(0, 3, 1, 2)
        tokens: Tensor = self.proj(values).flatten(2).transpose(1, 2)
        out: Tensor = tokens + self.pos_emb(tokens.dtype)
        return out


class _OutputAdapter(nn.Module):
    def __init__(self, output: str, config: ModelConfig, dim: int) -> None:
        super().__init__()
        source, width = output_source(output), config.decoder_dim
        self.patch, self.channels = source.patch(config.patch_size), source.channels
        self.home, self.domains = config.in_domains.index(source.name), config.in_domains
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.task_embeddings = nn.ParameterDict({name: torch.zeros(1, 1, width) for name in config.in_domains})
        self.pos_emb = PositionEmbedding(width, config.patch_size, config.grid_hw, "bilinear")
        self.proj_context = nn.Linear(dim, width)
        self.query_norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.context_norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.decoder = _CrossAttention(width, config.decoder_num_heads)
        self.out_norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = _Mlp(width, MLP_RATIO * width)
        blocks = [_Block(width, config.decoder_num_heads, MLP_RATIO * width) for _ in range(config.decoder_depth)]
        self.decoder_transformer = nn.Sequential(*blocks)
        self.out_proj = nn.Linear(width, self.channels * self.patch**2)

    def forward(self, encoded_BLD: Tensor, keep_BK: Tensor) -> Tensor:
        context_BLd = self.proj_context(encoded_BLD)
        batch, (visible, width) = len(context_BLd), (keep_BK.shape[1], context_BLd.shape[2])
        # Every position of every modality holds a mask token, until a visible token replaces it.
        places_nd = self.pos_emb(context_BLd.dtype)
        marks = [self.task_embeddings[name][0] + places_nd for name in self.domains]
        marks_BNd = torch.cat(marks).expand(batch, -1, -1).to(context_BLd.dtype)
        where_BKd = keep_BK[:, :, None].expand(-1, -1, width)
        visible_BKd = context_BLd[:, :visible] + marks_BNd.gather(1, where_BKd)
        tokens_BNd = (self.mask_token + marks_BNd).to(visible_BKd.dtype).scatter(1, where_BKd, visible_BKd)
        first = self.home * len(places_nd)
        queries_Bnd = tokens_BNd[:, first : first + len(places_nd)]
        context_BLd = torch.cat([visible_BKd, context_BLd[:, visible:]], dim=1)
        x_Bnd = self.decoder(self.query_norm(queries_Bnd), self.context_norm(context_BLd))
        x_Bnd = x_Bnd + self.mlp(self.out_norm(x_Bnd))
        out_Bnp = self.out_proj(self.decoder_transformer(x_Bnd))
        patches: Tensor = out_Bnp.view(*out_Bnp.shape[:2], self.channels, self.patch, self.patch)
        return patches


class PlainMultiMAE(nn.Module):
    """The model of `MultiMAE`, if every output is also an input. Initial weights are torch's defaults."""

    def __init__(self, config: ModelConfig, variant: Variant) -> None:
        super().__init__()
        dim = variant.dim
        self.global_tokens = nn.Parameter(torch.zeros(1, config.num_global_tokens, dim))
        self.input_adapters = nn.ModuleDict({name: _InputAdapter(name, config, dim) for name in config.in_domains})
        self.output_adapters = nn.ModuleDict({name: _OutputAdapter(name, config, dim) for name in config.outputs})
        blocks = [_Block(dim, variant.num_heads, variant.mlp_dim) for _ in range(variant.depth)]
        self.encoder = nn.Sequential(*blocks)

    def forward(self, values: Mapping[str, Tensor], plan: MaskPlan) -> ModelOutput:
        """The same as `MultiMAE.forward`."""
        tokens_BND = torch.cat([adapter(values[name]) for name, adapter in self.input_adapters.items()], dim=1)
        x_BKD = tokens_BND.gather(1, plan.keep_BK[:, :, None].expand(-1, -1, tokens_BND.shape[-1]))
        global_BGD = self.global_tokens.expand(len(x_BKD), -1, -1).to(x_BKD.dtype)
        encoded_BLD = self.encoder(torch.cat([x_BKD, global_BGD], dim=1))
        patches = {name: adapter(encoded_BLD, plan.keep_BK) for name, adapter in self.output_adapters.items()}
        return ModelOutput(patches, encoded_BLD)
