"""Activation recomputation (activation checkpointing): the backward pass computes activations again to save memory.

none        keep everything
selective   keep the results of matrix products and attention, compute the cheap rest again
full        keep the blocks' inputs only
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from mmae.model.short_attention import operators  # noqa: F401  (registers two of the operators below)

Checkpointing = Literal["none", "selective", "full"]


@dataclass(frozen=True)
class Recompute:
    """The mode, and the blocks: those with a number that is a multiple of `every`."""

    how: Checkpointing = "none"
    every: int = 1


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
        torch.ops.mmae.short_self_attention.default,
        torch.ops.mmae.short_cross_attention.default,
    }
)
"""Results that are expensive to recompute, relative to their bytes."""


def run_blocks(
    blocks: nn.ModuleList,
    x: Tensor,
    recompute: Recompute,
    others: Sequence[tuple[Any, ...]] | None = None,
    chosen: range | None = None,
) -> Tensor:
    """One block after another; `others` holds each block's further arguments, `chosen` the numbers of those to run."""
    for number in range(len(blocks)) if chosen is None else chosen:
        block = blocks[number]
        how = recompute.how if number % recompute.every == 0 and torch.is_grad_enabled() else "none"
        x = _run(block, how, x, *(others[number] if others is not None else ()))
    return x


def _run(block: nn.Module, how: Checkpointing, *args: Any) -> Tensor:
    # Blocks draw no random numbers, so no random state is kept: reading the device's state would wait for the device.
    match how:
        case "none":
            out = block(*args)
        case "full":
            out = checkpoint(block, *args, use_reentrant=False, preserve_rng_state=False)
        case "selective":
            contexts = partial(create_selective_checkpoint_contexts, _policy)
            out = checkpoint(block, *args, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)
    result: Tensor = out
    return result


def _policy(_context: Any, operator: Any, *_args: Any, **_kwargs: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if operator in _KEPT else CheckpointPolicy.PREFER_RECOMPUTE
