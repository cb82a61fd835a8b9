"""Which tokens the encoder sees: pure functions of a tile's key and validity.

Bachmann et al., "MultiMAE" (ECCV 2022), section 3.2: shares of the visible tokens ~ Dirichlet over modalities, tokens
at random within each. Beyond the paper, tokens without data are chosen only where nothing else is left.

Tokens are ranked by integers, (class << 40) | 40 random bits, with a stable sort: devices cannot disagree.
Shapes are static and nothing waits for the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor

from mmae.config.schema import ModelConfig
from mmae.draws import Stream, bits
from mmae.model.dirichlet import dirichlet_shares
from mmae.types import MaskPlan

_RANDOM_BITS: Final = 40
_DRAWN_BITS: Final = 63


def plan_masks(token_valid_BN: Tensor, key_B: Tensor, config: ModelConfig) -> MaskPlan:
    """Draw the visible tokens of each tile; ids are ascending.

    Under `config.paper_exact` validity is ignored: every token may be chosen, and none counts as filled.

    Args:
        token_valid_BN: bool, True where a token holds any data; modality after modality in the config's order.
        key_B: int64, keys of the tiles' draws (`draws.tile_keys`).
        config: the model; K is its `num_encoded_tokens`.

    Returns:
        The plan, on the device of `token_valid_BN`.
    """
    valid_BN = torch.ones_like(token_valid_BN) if config.paper_exact else token_valid_BN
    valid_BMn = valid_BN.view(-1, len(config.in_domains), config.tokens_per_modality)
    counts_BM = _counts(valid_BMn, key_B, config)
    within_BN = _random_bits(key_B, Stream.MASK_WITHIN, valid_BN.shape[1])
    drawn_BMn = _ranks(_scores(~valid_BMn, within_BN.view(valid_BMn.shape))) < counts_BM[:, :, None]
    # Classes: drawn, other valid tokens, no data. The first K are the union cut, or filled up, uniformly.
    class_BN = torch.where(drawn_BMn.flatten(1), 0, torch.where(valid_BN, 1, 2))
    union_BN = _random_bits(key_B, Stream.MASK_UNION, valid_BN.shape[1])
    order_BN = _scores(class_BN, union_BN).argsort(dim=1, stable=True)
    keep_BK = order_BN[:, : config.num_encoded_tokens].sort(dim=1).values
    filled_B = (~valid_BN).gather(1, keep_BK).sum(dim=1)
    return MaskPlan(keep_BK, _hidden(keep_BK, valid_BN.shape[1]), filled_B)


def plan_from_ids(keep_BK: Tensor, num_tokens: int) -> MaskPlan:
    """The plan that shows the given tokens, in the given order; nothing counts as filled.

    Args:
        keep_BK: int64, distinct ids of 0 .. num_tokens-1.
        num_tokens: N.
    """
    return MaskPlan(keep_BK, _hidden(keep_BK, num_tokens), torch.zeros_like(keep_BK[:, 0]))


def _counts(valid_BMn: Tensor, key_B: Tensor, config: ModelConfig) -> Tensor:
    available_BM = valid_BMn.sum(dim=2)
    chosen_BM = available_BM > 0
    if config.sample_tasks_uniformly:
        chosen_BM = _subset(chosen_BM, key_B)
    shares_BM = dirichlet_shares(key_B, config.alphas_m, chosen_BM)
    counts_BM = (shares_BM * config.num_encoded_tokens).round().to(torch.int64)
    return torch.minimum(counts_BM, available_BM)


def _subset(present_BM: Tensor, key_B: Tensor) -> Tensor:
    """One of the 2^p - 1 non-empty subsets of the p present modalities; none where none is present."""
    subsets_B = (torch.ones_like(key_B) << present_BM.sum(dim=1)) - 1
    code_B = 1 + bits(key_B, Stream.MASK_SUBSET, 1)[:, 0] % subsets_B.clamp(min=1)
    position_BM = (present_BM.cumsum(dim=1) - 1).clamp(min=0)
    return present_BM & ((code_B[:, None] >> position_BM) & 1).bool()


def _random_bits(key_B: Tensor, stream: Stream, count: int) -> Tensor:
    return bits(key_B, stream, count) >> (_DRAWN_BITS - _RANDOM_BITS)


def _scores(class_: Tensor, random_bits: Tensor) -> Tensor:
    return (class_.to(torch.int64) << _RANDOM_BITS) | random_bits


def _ranks(scores: Tensor) -> Tensor:
    """Place of each entry among its row, the smallest score first."""
    return scores.argsort(dim=-1, stable=True).argsort(dim=-1)


def _hidden(keep_BK: Tensor, num_tokens: int) -> Tensor:
    hidden_BN = torch.ones(keep_BK.shape[0], num_tokens, dtype=torch.bool, device=keep_BK.device)
    return hidden_BN.scatter(1, keep_BK, False)


def plan_masks_without(hidden: Sequence[str], token_valid_BN: Tensor, key_B: Tensor, config: ModelConfig) -> MaskPlan:
    """Draw visible tokens like `plan_masks`, for a model that has the other inputs only.

    No token of a hidden modality is visible, not even if a tile is filled up with tokens without data.

    Args:
        hidden: some of `config.in_domains`; the others have at least `config.num_encoded_tokens` tokens.
        token_valid_BN: bool, of all modalities.
        key_B: int64, keys of the tiles' draws.
    """
    shown = [place for place, name in enumerate(config.in_domains) if name not in hidden]
    alphas = tuple(config.alphas_m[place] for place in shown)
    others = replace(config, in_domains=tuple(config.in_domains[place] for place in shown), alphas=alphas)
    tokens = config.tokens_per_modality
    first_M = torch.tensor(shown, device=token_valid_BN.device) * tokens
    # Ids among all tokens of those that may be shown, ascending.
    id_X = (first_M[:, None] + torch.arange(tokens, device=first_M.device)).flatten()
    drawn = plan_masks(token_valid_BN[:, id_X], key_B, others)
    return replace(plan_from_ids(id_X[drawn.keep_BK], token_valid_BN.shape[1]), filled_B=drawn.filled_B)
