"""The gradient's norm in a few kernels, instead of several for each parameter."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def gradients_norm(gradients: Sequence[Tensor]) -> Tensor:
    """The 2-norm over all gradients of this rank as a float64 scalar; 0 without any.

    It is not finite where a gradient holds an infinity or a NaN.
    """
    if not gradients:
        return torch.zeros((), dtype=torch.float64)
    norms = torch._foreach_norm(list(gradients), 2, dtype=torch.float32)
    total: Tensor = torch.stack(norms).double().norm()
    return total
