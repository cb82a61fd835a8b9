"""Whether a model's weights can be those of a training that went well."""

from __future__ import annotations

import sys
from typing import Final

from torch import nn

LARGEST: Final = 1e4
"""Weights of trained models stay orders of magnitude below."""


def warn_of_weights(model: nn.Module, where: str) -> None:
    """Say on stderr where weights are not finite, or too large to have been learned."""
    if doubt := doubt_of(model):
        advice = "the training has diverged: take an earlier checkpoint"
        print(f"mmae: WARNING: {where}: {doubt}; {advice}", file=sys.stderr)


def doubt_of(model: nn.Module) -> str:
    """What is wrong with weights and buffers, in words; empty where nothing is."""
    floats = {name: each.detach() for name, each in model.state_dict().items() if each.is_floating_point()}
    largest = {name: float(each.abs().max()) for name, each in floats.items() if each.numel()}
    for what, names in (
        ("are not finite", [name for name, each in largest.items() if not each < float("inf")]),
        (f"are larger than {LARGEST:g}", [name for name, each in largest.items() if LARGEST < each < float("inf")]),
    ):
        if names:
            return f"values in {len(names)} of {len(largest)} tensors {what} (first: {names[0]})"
    return ""
