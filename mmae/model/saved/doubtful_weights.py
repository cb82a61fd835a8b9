"""Warns of weights that cannot come from a successful training."""

from __future__ import annotations

import sys
from typing import Final

from torch import nn

LARGEST: Final = 1e4
"""The weights of trained models are orders of magnitude smaller."""


def warn_of_weights(model: nn.Module, where: str) -> None:
    """Warn on stderr of weights that are not finite, or too large to have been learned."""
    if doubt := doubt_of(model):
        advice = "the training has diverged: take an earlier checkpoint"
        print(f"mmae: WARNING: {where}: {doubt}; {advice}", file=sys.stderr)


def doubt_of(model: nn.Module) -> str:
    """A description of what is wrong with weights and buffers; empty if nothing is."""
    floats = {name: each.detach() for name, each in model.state_dict().items() if each.is_floating_point()}
    largest = {name: float(each.abs().max()) for name, each in floats.items() if each.numel()}
    for what, names in (
        ("are not finite", [name for name, each in largest.items() if not each < float("inf")]),
        (f"are larger than {LARGEST:g}", [name for name, each in largest.items() if LARGEST < each < float("inf")]),
    ):
        if names:
            return f"values in {len(names)} of {len(largest)} tensors {what} (first: {names[0]})"
    return ""
