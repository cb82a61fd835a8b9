"""Gradients that are handed to the optimiser of stages 1 and 2 without a copy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer
from torch import Tensor

from mmae.engine.engine_protocol import Engine


class _Handed(list[Tensor]):
    """A group's gradients as autograd has left them, with one flat float32 copy of them."""

    def __init__(self, places: Sequence[tuple[Tensor, int]], size: int) -> None:
        """From the group's parameters, each with the place of its first number among the group's `size` numbers."""
        super().__init__(parameter.grad for parameter, _ in places if parameter.grad is not None)
        self._places, self._size = places, size

    @property
    def flat_partition(self) -> Tensor:
        """The copy, (size,); 0 where there is no gradient."""
        given = [(each.grad, place) for each, place in self._places if each.grad is not None]
        make = torch.empty if sum(gradient.numel() for gradient, _ in given) == self._size else torch.zeros
        flat = make(self._size, dtype=torch.float32, device=self._places[0][0].device)
        parts = [flat[place : place + gradient.numel()].view_as(gradient) for gradient, place in given]
        torch._foreach_copy_(parts, [gradient for gradient, _ in given])
        return flat


def hand_over_gradients(engine: Engine) -> None:
    """Give a single rank's gradients to AdamW in one copy at stages 1 and 2, clipped within AdamW's own kernel.

    Written for deepspeed 0.19.8, which copies each gradient into a bucket and out of it, all of them into a flat
    tensor, that one into float32, and multiplies it to clip it: 24 bytes a parameter more in bf16. It also waits twice
    more for the device. Its own step does all else: it takes a group's flat float32 gradients where they are given.

    Nothing is changed where there are several ranks, an offloaded optimiser, or sums in another dtype than the weights.
    """
    optimizer = engine.optimizer
    if not isinstance(optimizer, DeepSpeedZeroOptimizer) or optimizer.cpu_offload or optimizer.use_separate_grad_accum:
        return
    if dist.get_world_size(optimizer.dp_process_group) > 1:
        return
    # torch's own AdamW, an attribute of which is not in its types.
    adamw: Any = engine.basic_optimizer

    def collect(*_args: object, **_kwargs: object) -> None:
        if optimizer.is_gradient_accumulation_boundary():
            for number, group in enumerate(optimizer.round_robin_bit16_groups):
                places = list(zip(group, optimizer.round_robin_bit16_offsets[number], strict=True))
                optimizer.averaged_gradients[number] = _Handed(places, int(optimizer.partition_size[number]))

    def divide_in_the_step(_gradients: object, norm: Tensor) -> None:
        # No copy of a number from the host, which would wait for the device.
        scale = torch.full((), float(optimizer.loss_scale), device=engine.device)
        if optimizer.clip_grad > 0:
            scale = (((norm / optimizer.loss_scale) + 1e-6) / optimizer.clip_grad).clamp(min=1.0) * scale
        adamw.grad_scale = scale.float()

    optimizer.process_gradients = lambda param, i: None
    optimizer.reduce_gradients = collect
    optimizer.overlapping_partition_gradients_reduce_epilogue = collect
    optimizer.unscale_and_clip_grads = divide_in_the_step
