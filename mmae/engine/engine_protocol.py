"""What this project uses of DeepSpeed's engine, typed: DeepSpeed itself has no types.

Here: attributes and methods that DeepSpeed documents, or keeps in plain sight. What lies deeper is in
`deepspeed_internals`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.hooks import RemovableHandle

from mmae.engine.module import PretrainModule
from mmae.types import Inputs, MaskPlan


class Engine(Protocol):
    """DeepSpeed's engine around a `PretrainModule`.

    Attributes:
        training: whether it is in training mode.
        basic_optimizer: torch's AdamW.
        optimizer: DeepSpeed's wrapper of it; at ZeRO stage 0 in float32 it is `basic_optimizer` itself.
        global_steps: optimiser steps made, those left out included.
        micro_steps: forward and backward passes made.
        global_samples: tiles seen by all ranks.
        skipped_steps: steps left out.
    """

    module: PretrainModule
    device: torch.device
    training: bool
    basic_optimizer: torch.optim.Optimizer
    optimizer: Any
    lr_scheduler: LambdaLR
    global_steps: int
    micro_steps: int
    global_samples: int
    skipped_steps: int

    def __call__(
        self, inputs: Inputs, plan: MaskPlan, count_O: Tensor, share: float, /
    ) -> tuple[Tensor, Tensor, Tensor]: ...

    def backward(self, loss: Tensor, *, scale_wrt_gas: bool) -> Any: ...

    def step(self) -> None: ...

    def train(self) -> Any: ...

    def eval(self) -> Any: ...

    def get_lr(self) -> list[float]: ...

    def get_global_grad_norm(self) -> Tensor | float | None:
        """The norm that the last step's gradient had before clipping; on the device or on the host."""

    def was_step_applied(self) -> bool: ...

    def gradient_clipping(self) -> float: ...

    def gradient_accumulation_steps(self) -> int: ...

    def train_batch_size(self) -> int: ...

    def bfloat16_enabled(self) -> bool: ...

    def save_checkpoint(self, save_dir: str, tag: str, client_state: Mapping[str, Any], save_latest: bool) -> Any: ...

    def load_checkpoint(self, load_dir: str, tag: str) -> tuple[str | None, Any]: ...

    def register_forward_pre_hook(self, hook: Callable[..., None], /) -> RemovableHandle: ...

    def register_forward_hook(self, hook: Callable[..., None], /) -> RemovableHandle: ...

    def destroy(self) -> None: ...
