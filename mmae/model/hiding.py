"""Masks that hide whole modalities: what does a model make of them from the others alone?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mmae.config import ModelConfig
from mmae.model.masking import plan_from_ids, plan_masks
from mmae.types import MaskPlan


def plan_masks_without(hidden: Sequence[str], token_valid_BN: Tensor, key_B: Tensor, config: ModelConfig) -> MaskPlan:
    """Draw visible tokens as `plan_masks` would for a model whose inputs are the others alone.

    No token of a hidden modality is visible, not even where a tile is filled up with tokens without data.

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
