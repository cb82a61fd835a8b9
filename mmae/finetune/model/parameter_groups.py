"""Groups of parameters for the optimiser: a learning rate that falls with depth, and what decays."""

from __future__ import annotations

from typing import Any

from torch import nn

from mmae.model.encoder import HEAD
from mmae.model.parameters import decays
from mmae.model.tuned.finetuned_model import FinetunedModel


def parameter_groups(model: FinetunedModel, weight_decay: float, layer_decay: float = 1.0) -> list[dict[str, Any]]:
    """Groups `{"params", "lr_scale", "weight_decay", "name"}` of the trainable parameters, always in the same order.

    Clark et al., "ELECTRA" (ICLR 2020), and Bao et al., "BEiT" (ICLR 2022): the head learns at the full rate, each
    block below at `layer_decay` times that of the one above, adapters and global tokens at the lowest.

    Args:
        weight_decay: of matrices and kernels. Biases, norms, tokens, embeddings and LoRA's factors do not decay.
        layer_decay: above 0, at most 1; 1: the same rate for all.
    """
    depth = len(model.encoder.blocks)
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        layer, decayed = _layer(name, depth), _decays(name, parameter)
        group = groups.setdefault(
            (layer, decayed),
            {
                "params": [],
                "lr_scale": layer_decay ** (depth + 1 - layer),
                "weight_decay": weight_decay if decayed else 0.0,
                "name": f"layer {layer}{'' if decayed else ', no decay'}",
            },
        )
        group["params"].append(parameter)
    return [groups[key] for key in sorted(groups)]


def _layer(name: str, depth: int) -> int:
    """0 for what makes tokens, 1 to depth for the blocks, depth + 1 for the head."""
    if name.startswith(HEAD):
        return depth + 1
    words = name.split(".")
    return int(words[2]) + 1 if words[:2] == ["encoder", "blocks"] else 0


def _decays(name: str, parameter: nn.Parameter) -> bool:
    # Heads hold no stacked layers, and not all of their norms are called norms.
    return decays(name) and (parameter.ndim > 1 or not name.startswith(HEAD))
