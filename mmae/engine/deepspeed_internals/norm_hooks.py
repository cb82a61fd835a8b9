"""The gradient's norm: another way to compute it, and where it is seen before an update."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer
from torch import Tensor

from mmae.engine.engine_protocol import Engine
from mmae.errors import InputError


def replace_norm(engine: Engine, norm_of: Callable[[Sequence[Tensor]], Tensor]) -> None:
    """Have `norm_of` compute a rank's part of the gradient's norm at stages 1 and 2, in place of DeepSpeed's own.

    Written for deepspeed 0.19.8, which first looks at every gradient for an infinity or a NaN, then takes its norm,
    each with several kernels a parameter and a wait for the device. Offloaded optimisers and other stages keep
    DeepSpeed's. In bf16 the first look is left out too: it discards no step that the norm would not discard.

    Args:
        norm_of: the 2-norm over all gradients it is given.
    """
    optimizer = engine.optimizer
    if not isinstance(optimizer, DeepSpeedZeroOptimizer) or optimizer.cpu_offload:
        return

    def norm_direct(gradients: Sequence[Tensor], _params: object, norm_type: float = 2) -> Tensor:
        """Returns what DeepSpeed's method returns: float32, -1 where the norm is not finite."""
        if norm_type != 2:
            raise ValueError(f"a norm of order {norm_type} is not computed here")
        own = norm_of([gradient for gradient in gradients if not getattr(gradient, "_zero_padding", False)])
        square: Tensor = own.to(optimizer.device).square()
        dist.all_reduce(square, group=optimizer.dp_process_group)
        norm = square.sqrt().float()
        return torch.where(torch.isfinite(norm), norm, -1.0)

    optimizer.get_grad_norm_direct = norm_direct
    if engine.bfloat16_enabled():
        optimizer.has_overflow = lambda partition_gradients=True: False


def watch_norm(engine: Engine, see: Callable[[Any], None]) -> None:
    """Have `see` called in every optimiser step with the gradient's norm, after it is known and before the update.

    Written for deepspeed 0.19.8, which has no hook there. The norm is that of all ranks' gradients, still multiplied
    by the loss scale.

    Raises:
        InputError: DeepSpeed's optimiser is of a class that this does not know.
    """
    outer = engine.optimizer
    ways = (
        ("_get_norm_groups", _seen_from_groups),  # stage 3
        ("scaled_global_norm", _seen_from_result),  # stages 1 and 2
        ("unscale_and_clip_grads", _seen_from_argument),  # stage 0
    )
    for name, seen in ways:
        if hasattr(outer, name):
            setattr(outer, name, seen(getattr(outer, name), see))
            return
    raise InputError(
        f"train.skip_grad_norm does not work with DeepSpeed's {type(outer).__name__}, which this --deepspeed_config "
        "asks for: leave data_types.grad_accum_dtype out of it"
    )


def _seen_from_groups(norms: Callable[[], list[Any]], see: Callable[[Any], None]) -> Callable[[], list[Any]]:
    def seen() -> list[Any]:
        found = norms()
        see(torch.stack([torch.as_tensor(norm).float() for norm in found]).norm())
        return found

    return seen


def _seen_from_result(total_norm: Callable[..., Any], see: Callable[[Any], None]) -> Callable[..., Any]:
    def seen(*args: Any, **kwargs: Any) -> Any:
        norm = total_norm(*args, **kwargs)
        see(norm)
        return norm

    return seen


def _seen_from_argument(clip: Callable[..., Any], see: Callable[[Any], None]) -> Callable[..., Any]:
    # Of DeepSpeed's two optimisers of this stage, one is given the gradients too, before the norm.
    def seen(*args: Any, **kwargs: Any) -> Any:
        see(args[-1])
        return clip(*args, **kwargs)

    return seen


def leave_out_clipping(engine: Engine) -> None:
    """Take DeepSpeed's own clipping out of float32 steps at stage 0: a hook on the optimiser clips there.

    Written for deepspeed 0.19.8, which clips before the optimiser's step, and would compute the norm a second time.
    """
    engine.clip_fp32_gradients = lambda: None  # type: ignore[attr-defined]


def report_norm(engine: Engine, norm: Tensor) -> None:
    """Have `get_global_grad_norm` return this norm after the step, in float32 at stage 0.

    Written for deepspeed 0.19.8, which asks the optimiser for it after each step, and torch's AdamW has none.
    """
    engine.optimizer._global_grad_norm = norm
