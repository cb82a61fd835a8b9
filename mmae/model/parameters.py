"""Weight decay by the meaning of the published parameter, not by the number of axes (stacked parameters have more)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from torch import nn

_NORM: Final = re.compile(r"(\w+_)?norm\d*")
_EMBEDDING: Final = "class_emb"


def _same_rate(_: str) -> float:
    return 1.0


def decays(name: str) -> bool:
    """Whether a parameter, by its name here or in the published model, is a matrix of a linear map.

    Biases, norms, embeddings, positions, tokens and the log variances of the loss balancer are not.
    """
    *_, module, leaf = ["", *name.split(".")]
    return leaf == "weight" and module != _EMBEDDING and not _NORM.fullmatch(module)


def parameter_groups(
    named_parameters: Iterable[tuple[str, nn.Parameter]],
    weight_decay: float,
    paper_exact: bool,
    rate: Callable[[str], float] = _same_rate,
    multiplier: Callable[[str], float] = _same_rate,
) -> list[dict[str, Any]]:
    """Optimiser groups `{"params", "weight_decay", "rate"}` of the trainable parameters; none of them is empty.

    AdamW decays a weight by learning rate times weight decay in a step; this product is the same at any rate, as widths
    need it (Wang and Aitchison, "How to set AdamW's weight decay as you scale model and dataset size", ICML 2025).

    Args:
        weight_decay: of a group whose rate is 1.
        paper_exact: everything decays, as the published optimiser has it.
        rate: a parameter's learning rate, by its name, as a share of the common one.
        multiplier: a further factor of it, which slows the decay of a weight as it slows its learning.
    """
    members: dict[tuple[float, float, bool], list[nn.Parameter]] = {(1.0, 1.0, True): [], (1.0, 1.0, False): []}
    for name, parameter in named_parameters:
        if parameter.requires_grad:
            key = rate(name), multiplier(name), paper_exact or decays(name)
            members.setdefault(key, []).append(parameter)
    return [
        {"params": parameters, "weight_decay": weight_decay / share if decayed else 0.0, "rate": share * factor}
        for (share, factor, decayed), parameters in members.items()
        if parameters
    ]
