"""AdamW and the schedule of its learning rate."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from mmae.config.schema import TrainConfig
from mmae.model.parameters import parameter_groups


def build_optimizer(module: nn.Module, train: TrainConfig, paper_exact: bool) -> torch.optim.AdamW:
    """AdamW over all parameters. What a parameter holds decides its weight decay (`parameter_groups`).

    The fused implementation allocates no temporaries as large as the model.
    """
    groups = parameter_groups(module.named_parameters(), train.weight_decay, paper_exact)
    return torch.optim.AdamW(groups, lr=train.lr, betas=train.opt_betas, fused=True)


def group_names(module: nn.Module, train: TrainConfig, paper_exact: bool) -> list[list[str]]:
    """Names of the parameters in each of the optimiser's groups, in order."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    groups = parameter_groups(module.named_parameters(), train.weight_decay, paper_exact)
    return [[names[id(parameter)] for parameter in group["params"]] for group in groups]


class Schedule(Protocol):
    """What decides the learning rate of each step."""

    @property
    def max_steps(self) -> int: ...

    @property
    def warmup_steps(self) -> int: ...

    @property
    def lr(self) -> float: ...

    @property
    def min_lr(self) -> float: ...


def lr_factor(step: int, train: Schedule) -> float:
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
