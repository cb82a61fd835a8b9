"""Weight decay by the meaning of the published parameter, not by the number of axes (stacked parameters have more)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from torch import nn

_NORM: Final = re.compile(r"(\w+_)?norm\d*")
_EMBEDDING: Final = "class_emb"


def decays(name: str) -> bool:
    """Whether a parameter, by its name here or in the published model, is a matrix of a linear map.

    Biases, norms, embeddings, positions, tokens and the log variances of the loss balancer are not.
    """
    *_, module, leaf = ["", *name.split(".")]
    return leaf == "weight" and module != _EMBEDDING and not _NORM.fullmatch(module)


def parameter_groups(
    named_parameters: Iterable[tuple[str, nn.Parameter]], weight_decay: float, paper_exact: bool
) -> list[dict[str, Any]]:
    """Optimiser groups `{"params", "weight_decay"}` of the trainable parameters; a group without any is left out.

    Under `paper_exact` everything decays, as the published optimiser has it.
    """
    decay: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in named_parameters:
        if parameter.requires_grad:
            (decay if paper_exact or decays(name) else rest).append(parameter)
    groups = [{"params": decay, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
