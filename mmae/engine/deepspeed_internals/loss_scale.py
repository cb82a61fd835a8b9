"""The loss scale of fp16."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mmae.engine.deepspeed_internals.norm_hooks import report_norm
from mmae.engine.engine_protocol import Engine


def loss_scale(engine: Engine) -> float:
    """The loss scale of fp16 that the next step uses.

    Written for deepspeed 0.19.8, whose optimisers keep it in one of two places.
    """
    return float(getattr(engine.optimizer, "loss_scale_config", engine.optimizer).cur_scale)


def grow_scale_after_steps(engine: Engine) -> None:
    """Have a step use one loss scale from its backward pass to its end.

    Written for deepspeed 0.19.8, which lets the scale grow in the middle of a step: every 1 000th step, by its
    defaults, took half of its gradient.
    """
    optimizer = engine.optimizer
    update, step = optimizer._update_scale, optimizer.step

    def shrink_only(overflow: bool) -> None:
        if overflow:
            update(overflow)

    def step_then_grow(*args: Any, **kwargs: Any) -> None:
        step(*args, **kwargs)
        if not optimizer.overflow:
            update(False)

    optimizer._update_scale, optimizer.step = shrink_only, step_then_grow


def scale_loss_at_stage_0(engine: Engine) -> None:
    """Multiply the loss by the loss scale at stage 0, whose step divides gradients by it. After
    `grow_scale_after_steps`.

    Written for deepspeed 0.19.8, whose `engine.backward` scales the loss at other stages only. Gradients reached AdamW
    65 536 times too small, where its eps outweighs them, and no step was clipped or found too large.
    """
    whole: Any = engine
    optimizer, backward, step = engine.optimizer, engine.backward, engine.optimizer.step

    def backward_of_scaled(loss: Tensor, **kwargs: Any) -> None:
        backward(loss * optimizer.loss_scale, **kwargs)

    def step_with_true_norm(*args: Any, **kwargs: Any) -> None:
        scale = optimizer.loss_scale
        step(*args, **kwargs)
        if not optimizer.overflow:
            # DeepSpeed says the norm of scaled gradients there, and that of unscaled ones at other stages.
            report_norm(engine, optimizer._global_grad_norm / scale)

    whole.backward, optimizer.step = backward_of_scaled, step_with_true_norm
