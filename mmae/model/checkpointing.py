"""Activation checkpointing: trade a second forward pass of each block for the memory of its activations."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Checkpointing = Literal["none", "full"]


def run_blocks(blocks: nn.ModuleList, x: Tensor, checkpointing: Checkpointing) -> Tensor:
    """One block after another; `full` keeps only the blocks' inputs for the backward pass."""
    for block in blocks:
        if checkpointing == "full" and torch.is_grad_enabled():
            x = checkpoint(block, x, use_reentrant=False)
        else:
            x = block(x)
    return x
