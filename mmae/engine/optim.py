"""The optimiser and the schedules of its learning rate."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from mmae.config.schema import ModelConfig, TrainConfig
from mmae.engine.matrices.muon import MuonAndAdamW, with_matrices
from mmae.model.counts.named_parts import multiplier
from mmae.model.parameters import parameter_groups
from mmae.model.parametrisation import Parametrisation


def build_optimizer(module: nn.Module, train: TrainConfig, model: ModelConfig) -> torch.optim.AdamW:
    """The optimiser of all parameters that learn. What one holds decides its weight decay and its learning rate.

    The fused implementation allocates no temporaries as large as the model.
    """
    groups = _groups(module, train, model)
    for group in groups:
        group["lr"] = train.lr * group.pop("rate")
    if train.optimizer == "muon":
        return MuonAndAdamW(groups, train.lr, train.opt_betas)
    return torch.optim.AdamW(groups, lr=train.lr, betas=train.opt_betas, fused=True)


def group_names(module: nn.Module, train: TrainConfig, model: ModelConfig) -> list[list[str]]:
    """Names of the parameters in each of the optimiser's groups, in order."""
    names = _names(module)
    return [[names[id(parameter)] for parameter in group["params"]] for group in _groups(module, train, model)]


def _names(module: nn.Module) -> dict[int, str]:
    """Of its parameters, by their `id`."""
    return {id(parameter): name for name, parameter in module.named_parameters()}


def _groups(module: nn.Module, train: TrainConfig, model: ModelConfig) -> list[dict[str, Any]]:
    rate = Parametrisation(model.parametrisation, model.variant).rate
    groups = parameter_groups(
        module.named_parameters(), train.weight_decay, model.paper_exact, rate, lambda name: multiplier(name, train)
    )
    return with_matrices(groups, _names(module)) if train.optimizer == "muon" else groups


class CosineSchedule(Protocol):
    """What decides the learning rate of each step of a cosine schedule."""

    @property
    def max_steps(self) -> int: ...

    @property
    def warmup_steps(self) -> int: ...

    @property
    def lr(self) -> float: ...

    @property
    def min_lr(self) -> float: ...


def lr_factor(step: int, train: TrainConfig) -> float:
    """Learning rate of an optimiser step (counted from 0) as a share of the peak, by `train.schedule`.

    Both schedules are linear from 0 over `warmup_steps`. `wsd` then stays at the peak, and falls to `min_lr` over the
    last `decay_steps` (Hu et al., "MiniCPM", COLM 2024; the shape 1-sqrt: Haegele et al., "Scaling Laws and
    Compute-Optimal Training Beyond Fixed Training Durations", NeurIPS 2024).
    """
    if train.schedule == "cosine":
        return cosine_factor(step, train)
    if step < train.warmup_steps:
        return step / train.warmup_steps
    begin = train.max_steps - train.decay_steps
    if step <= begin:
        return 1.0
    floor = train.min_lr / train.lr if train.lr else 0.0
    progress = min(1.0, (step - begin) / train.decay_steps) if train.decay_steps else 0.0
    return floor + (1 - floor) * (1 - (progress if train.decay_shape == "linear" else math.sqrt(progress)))


def cooled_down(train: TrainConfig, step: int, decay: int) -> TrainConfig:
    """The settings of a cool-down: from the learning rate that follows `step` steps, down over the next `decay` steps.

    Raises:
        ValueError: the learning rate still rises there, or has nothing left to fall.
    """
    if step < train.warmup_steps:
        raise ValueError(f"the learning rate still rises there (train.warmup_steps={train.warmup_steps})")
    factor = lr_factor(step, train)
    if not train.min_lr < train.lr * factor:
        raise ValueError(f"the learning rate is at its end there ({train.lr * factor:g})")
    return replace(
        train,
        schedule="wsd",
        max_steps=step + decay,
        stop_at=None,
        decay_share=decay / (step + decay),
        # A factor of 1 leaves every bit of the rate as it is.
        blr=train.blr * factor,
    )


def cosine_factor(step: int, train: CosineSchedule) -> float:
    """Learning rate of an optimiser step (counted from 0) as a share of the peak.

    Linear from 0 over `warmup_steps`, then half a cosine to `min_lr` at `max_steps`
    (Loshchilov and Hutter, SGDR, ICLR 2017, without restarts).
    """
    if step < train.warmup_steps:
        return step / train.warmup_steps
    floor = train.min_lr / train.lr if train.lr else 0.0
    progress = (step - train.warmup_steps) / max(1, train.max_steps - train.warmup_steps)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def build_scheduler(optimizer: torch.optim.Optimizer, train: TrainConfig) -> LambdaLR:
    """A schedule with a step for each optimiser step. Its state is a step count: a new `max_steps` changes the rest."""
    return LambdaLR(optimizer, lambda step: lr_factor(step, train))
