"""Activation checkpointing: trade a second forward pass of each block for the memory of its activations.

none        keep everything
selective   keep the results of matrix products and attention, compute the cheap rest again
full        keep the blocks' inputs only
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

Checkpointing = Literal["none", "selective", "full"]

_aten = torch.ops.aten
_KEPT: Final = frozenset(
    {
        _aten.mm.default,
        _aten.addmm.default,
        _aten.bmm.default,
        _aten.baddbmm.default,
        _aten._scaled_dot_product_flash_attention.default,
        _aten._scaled_dot_product_flash_attention_for_cpu.default,
        _aten._scaled_dot_product_efficient_attention.default,
        _aten._scaled_dot_product_cudnn_attention.default,
    }
)
"""Results that cost much to compute again, for the bytes they take."""


def run_blocks(blocks: nn.ModuleList, x: Tensor, checkpointing: Checkpointing) -> Tensor:
    """One block after another."""
    for block in blocks:
        x = _run(block, x, checkpointing) if torch.is_grad_enabled() else block(x)
    return x


def _run(block: nn.Module, x: Tensor, checkpointing: Checkpointing) -> Tensor:
    match checkpointing:
        case "none":
            out = block(x)
        case "full":
            out = checkpoint(block, x, use_reentrant=False)
        case "selective":
            contexts = partial(create_selective_checkpoint_contexts, _policy)
            out = checkpoint(block, x, use_reentrant=False, context_fn=contexts)
    result: Tensor = out
    return result


def _policy(_context: Any, operator: Any, *_args: Any, **_kwargs: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if operator in _KEPT else CheckpointPolicy.PREFER_RECOMPUTE
