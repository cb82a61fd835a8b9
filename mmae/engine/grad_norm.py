"""The gradient's norm at ZeRO stages 1 and 2, in a few kernels instead of several a parameter.

DeepSpeed first looks at every gradient for an infinity or a NaN, then takes its norm, each with several small kernels
and a wait for the device. A norm over gradients that hold either is not finite, and DeepSpeed discards a step whose
norm is not finite, so the first look tells nothing that the norm does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MethodType
from typing import Any

import torch
import torch.distributed as dist
from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer
from torch import Tensor


def norm_at_once(engine: Any) -> None:
    """Replace both computations in an engine's optimiser; offloaded optimisers and other stages keep DeepSpeed's."""
    optimizer = engine.optimizer
    if isinstance(optimizer, DeepSpeedZeroOptimizer) and not optimizer.cpu_offload:
        optimizer.get_grad_norm_direct = MethodType(_partitioned_norm, optimizer)
        if engine.bfloat16_enabled():
            optimizer.has_overflow = _never_sooner_than_the_norm


def gradients_norm(gradients: Sequence[Tensor]) -> Tensor:
    """The 2-norm over all gradients of this rank as a float64 scalar; 0 without any."""
    if not gradients:
        return torch.zeros((), dtype=torch.float64)
    norms = torch._foreach_norm(list(gradients), 2, dtype=torch.float32)
    total: Tensor = torch.stack(norms).double().norm()
    return total


def _partitioned_norm(optimizer: Any, gradients: Sequence[Tensor], _params: object, norm_type: float = 2) -> Tensor:
    """What DeepSpeed's method of this place answers: float32, -1 where it is not finite."""
    if norm_type != 2:
        raise ValueError(f"a norm of order {norm_type} is not computed here")
    own = gradients_norm([gradient for gradient in gradients if not getattr(gradient, "_zero_padding", False)])
    square: Tensor = own.to(optimizer.device).square()
    dist.all_reduce(square, group=optimizer.dp_process_group)
    norm = square.sqrt().float()
    return torch.where(torch.isfinite(norm), norm, -1.0)


def _never_sooner_than_the_norm(partition_gradients: bool = True) -> bool:
    return False
