"""Parameters that stage 3 divides over ranks."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import deepspeed
import torch
from torch import Tensor, nn


def is_sharded(tensor: Tensor) -> bool:
    """Whether a parameter is divided over the ranks, and empty until it is gathered.

    Written for deepspeed 0.19.8, which gives such parameters a `ds_id` and offers no function that tells this.
    """
    return hasattr(tensor, "ds_id")


def gathered(tensor: Tensor, modifier_rank: int | None = None) -> AbstractContextManager[object]:
    """A context in which a sharded tensor is whole; it does nothing for others. Collective for a sharded tensor.

    Written for deepspeed 0.19.8, whose context does nothing if it is not enabled.

    Args:
        modifier_rank: the rank that may change the tensor, for all ranks.
    """
    context: AbstractContextManager[object] = deepspeed.zero.GatheredParameters(
        [tensor], modifier_rank=modifier_rank, enabled=is_sharded(tensor)
    )
    return context


def whole_shape(parameter: nn.Parameter) -> torch.Size:
    """A parameter's shape when it is gathered.

    Written for deepspeed 0.19.8: a sharded parameter has the shape (0,), and its own in `ds_shape`.
    """
    marked: Any = parameter
    shape: torch.Size = marked.ds_shape if is_sharded(parameter) else parameter.shape
    return shape
