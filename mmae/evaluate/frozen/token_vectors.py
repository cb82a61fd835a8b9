"""How the tokens of a tile become one vector, or one a patch; and an encoder whose weights were never trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Final, Literal

import torch
from torch import Tensor

from mmae.errors import InputError
from mmae.model.features import features_of_blocks
from mmae.model.initialise import initialise

if TYPE_CHECKING:
    from mmae.inference.raw_encoder import RawEncoder
    from mmae.model.features import Features
    from mmae.types import Inputs

Pooling = Literal["mean", "global", "max"]

POOLINGS: Final[tuple[Pooling, ...]] = ("mean", "global", "max")
_QUARTERS: Final = 4


def default_blocks(depth: int) -> tuple[int, ...]:
    """The blocks at a quarter, a half, three quarters and the end of an encoder, counted from 0."""
    return tuple(sorted({max(1, round(depth * part / _QUARTERS)) - 1 for part in range(1, _QUARTERS + 1)}))


def poolings_of(num_global_tokens: int) -> tuple[Pooling, ...]:
    """The poolings that a model with this number of global tokens has."""
    return POOLINGS if num_global_tokens else tuple(pooling for pooling in POOLINGS if pooling != "global")


def pool(tokens_BND: Tensor, valid_BN: Tensor, global_BGD: Tensor, pooling: Pooling) -> Tensor:
    """One vector a tile, float32 (B, D): NaN for a tile without a valid token.

    Args:
        valid_BN: bool, the tokens that count.
        pooling: mean or maximum of the valid tokens, or the mean of the global tokens.
    """
    valid_BN1, any_B1 = valid_BN[..., None], valid_BN.any(1, keepdim=True)
    match pooling:
        case "mean":
            pooled_BD = torch.where(valid_BN1, tokens_BND.float(), 0).sum(1) / valid_BN1.sum(1)
        case "global":
            pooled_BD = global_BGD.float().mean(1)
        case "max":
            pooled_BD = tokens_BND.float().masked_fill(~valid_BN1, -torch.inf).amax(1)
    return torch.where(any_B1, pooled_BD, torch.nan)


def encoder_vectors(
    encoder: RawEncoder, given: Inputs, blocks: Sequence[int], poolings: Sequence[Pooling]
) -> dict[tuple[int, str], Tensor]:
    """(block, pooling) -> float32 (B, D), for each block and pooling, in one pass through the encoder.

    Args:
        given: what `RawEncoder.inputs` or `raw_inputs` gave.
        blocks: counted from 0.
    """
    return pooled_vectors(encoded_blocks(encoder, given, blocks), given, poolings)


def patch_vectors(encoder: RawEncoder, given: Inputs, blocks: Sequence[int]) -> dict[int, Tensor]:
    """block -> float32 (B, h, w, D): in each patch the mean of the modalities' tokens that hold data, 0 where none."""
    return patch_means(encoded_blocks(encoder, given, blocks), given)


def encoded_blocks(encoder: RawEncoder, given: Inputs, blocks: Sequence[int]) -> dict[int, Features]:
    """block, counted from 0 -> its tokens, without gradients; tokens without data are hidden from the encoder."""
    depth = encoder.saved.variant.depth
    for block in blocks:
        if not -depth <= block < depth:
            raise InputError(f"block {block}: this encoder has {depth} blocks, 0 to {depth - 1}")
    with torch.no_grad():
        return features_of_blocks(encoder.model, given.values, given.visible(), blocks)


def pooled_vectors(
    encoded: Mapping[int, Features], given: Inputs, poolings: Sequence[Pooling]
) -> dict[tuple[int, str], Tensor]:
    """`encoder_vectors` of what `encoded_blocks` gave."""
    vectors = {}
    for block, each in encoded.items():
        tokens_BND = torch.cat([tokens.flatten(1, 2) for tokens in each.maps.values()], dim=1)
        valid_BN = torch.cat([given.token_valid[name] for name in each.maps], dim=1)
        for pooling in poolings:
            vectors[block, str(pooling)] = pool(tokens_BND, valid_BN, each.global_tokens, pooling)
    return vectors


def patch_means(encoded: Mapping[int, Features], given: Inputs) -> dict[int, Tensor]:
    """`patch_vectors` of what `encoded_blocks` gave."""
    means = {}
    for block, each in encoded.items():
        tokens_MBhwD = torch.stack([tokens.float() for tokens in each.maps.values()])
        valid_MBhw = torch.stack([given.token_valid[name].view(tokens.shape[:3]) for name, tokens in each.maps.items()])
        sum_BhwD = torch.where(valid_MBhw[..., None], tokens_MBhwD, 0).sum(0)
        means[block] = sum_BhwD / valid_MBhw.sum(0).clamp(min=1)[..., None]
    return means


def untrained(encoder: RawEncoder, seed: int = 0) -> RawEncoder:
    """An encoder of the same recipe whose weights were drawn anew, on the same device."""
    from mmae.inference.raw_encoder import RawEncoder

    model = deepcopy(encoder.model)
    device = next(model.parameters()).device
    initialise(model.cpu(), seed)
    return RawEncoder(model.to(device).eval(), encoder.saved)
