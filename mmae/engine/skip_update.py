"""Skipped updates: weights and moments stay as they are, bit for bit, and the schedule goes on.

DeepSpeed itself skips a step with a gradient that is not finite at ZeRO 1 to 3, and at stage 0 in bf16 and fp16. It
does not at stage 0 in float32. There, and everywhere for norms above `train.skip_grad_norm`, torch's fused AdamW gets a
flag on the device (`found_inf`, made for loss scaling), so that no host waits for the norm. The norm is that of all
ranks' gradients, so every rank skips the same steps.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mmae.engine.deepspeed_internals.norm_hooks import leave_out_clipping, report_norm, watch_norm
from mmae.engine.engine_protocol import Engine
from mmae.engine.grad_norm import gradients_norm


class Skips:
    """The skip flag of an engine's optimiser. Create it once, after the weights are loaded.

    Args:
        limit: largest norm of the gradient, before clipping, with which an update is made. None: every finite norm.
    """

    def __init__(self, engine: Engine, limit: float | None) -> None:
        self._engine = engine
        self._limit = limit
        # torch's own AdamW, two attributes of which are not in its types.
        self._optimizer: Any = engine.basic_optimizer
        self._none = torch.zeros((), device=engine.device)
        self._all = torch.ones((), device=engine.device)
        outer = engine.optimizer
        if outer is self._optimizer:
            # Float32 at stage 0. Its clipping moves into the hook, which has the norm.
            leave_out_clipping(engine)
            outer.register_step_pre_hook(self._before_plain_step)
        elif limit is not None:
            watch_norm(engine, self._flag_scaled)

    def after_step(self) -> Tensor:
        """1 where the step that has just been made was skipped, else 0; a scalar on the device.

        DeepSpeed does not advance the schedule when it skips a step. Here the learning rate is a function of the
        step's number alone, so the schedule is advanced.
        """
        if not self._engine.was_step_applied():
            # Without this, torch would warn that the schedule was stepped before the optimiser.
            self._optimizer._opt_called = True
            self._engine.lr_scheduler.step()
            return self._all
        found: Tensor | None = getattr(self._optimizer, "found_inf", None)
        return self._none if found is None else found.to(self._engine.device)

    def _before_plain_step(self, optimizer: Any, _args: object, _kwargs: object) -> None:
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = gradients_norm(gradients).to(self._engine.device).float()
        report_norm(self._engine, norm)
        self._flag(norm)
        clip = self._engine.gradient_clipping()
        if clip > 0 and gradients:
            torch._foreach_mul_(gradients, (clip / (norm + 1e-6)).clamp(max=1.0))

    def _flag(self, norm: Tensor) -> None:
        limit = torch.inf if self._limit is None else self._limit
        applied = norm.isfinite() & (norm <= limit)
        # The flag must be on the optimiser's device. torch would copy it there too, but for an offloaded optimiser
        # without waiting for the copy. At stage 3 the groups are empty between the steps of their parts: there the
        # norm is on the optimiser's device already, or on the host, and copies from the host are waited for.
        held = (parameter for group in self._optimizer.param_groups for parameter in group["params"])
        home = next((parameter.device for parameter in held), norm.device)
        self._optimizer.found_inf = (~applied).float().reshape(()).to(home)

    def _flag_scaled(self, norm: Any) -> None:
        self._flag(torch.as_tensor(norm, device=self._engine.device).float() / self._engine.optimizer.loss_scale)
