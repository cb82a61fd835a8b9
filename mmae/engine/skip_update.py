"""Steps whose update is left out: weights and moments stay as they are, bit for bit, and the schedule goes on.

DeepSpeed itself leaves out a step whose gradient is not finite at ZeRO 1 to 3, and at stage 0 in bf16 and fp16. At
stage 0 in float32 it does not: there, and for norms above `train.skip_grad_norm` everywhere, torch's fused AdamW is
given a flag on the device (`found_inf`, made for loss scaling), so that no host waits to know. A norm is that of all
ranks' gradients: every rank skips the same steps.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mmae.engine.deepspeed_internals import leave_out_clipping, report_norm, watch_norm
from mmae.engine.engine_protocol import Engine
from mmae.engine.grad_norm import gradients_norm


class Skips:
    """The flag of an engine's optimiser. Made once, when weights are loaded.

    Args:
        limit: largest norm of the gradient, before clipping, that is applied; None: any that is finite.
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
        """1 where the step that has just been made was left out, else 0; a scalar on the device.

        DeepSpeed holds the schedule on a step that it leaves out. Here the learning rate is a function of the step's
        number alone.
        """
        if not self._engine.was_step_applied():
            # Known to torch only as a wrong order of the first two calls, about which it would warn.
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
        # Where the optimiser works: torch would copy it there too, but for an offloaded one without waiting for it.
        # At stage 3 its groups are empty between the steps of their parts; there the norm is where it works, or on the
        # host, from where copies are waited for.
        held = (parameter for group in self._optimizer.param_groups for parameter in group["params"])
        home = next((parameter.device for parameter in held), norm.device)
        self._optimizer.found_inf = (~applied).float().reshape(()).to(home)

    def _flag_scaled(self, norm: Any) -> None:
        self._flag(torch.as_tensor(norm, device=self._engine.device).float() / self._engine.optimizer.loss_scale)
