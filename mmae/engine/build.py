"""From a plan to DeepSpeed's engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import deepspeed
import torch
import torch.distributed as dist

from mmae.engine.module import PretrainModule
from mmae.engine.optim import build_optimizer, build_scheduler
from mmae.engine.plan import Plan
from mmae.model.folder import load_weights_into


def build_engine(plan: Plan, load_initial: bool) -> Any:
    """DeepSpeed's engine around model, losses, optimiser and schedule.

    Args:
        load_initial: take the weights of `model.init_from` where the recipe names one.
    """
    config = plan.config
    # Initial weights have a seed of their own; what is left to torch's generator is drop path, which differs by rank.
    torch.manual_seed(config.train.seed * 65_537 + dist.get_rank())
    module = PretrainModule(config.model, None, config.train.activation_checkpointing, seed=config.train.seed)
    if load_initial and config.model.init_from is not None:
        load_weights_into(module.model, Path(config.model.init_from))
    optimizer = build_optimizer(module, config.train, config.model.paper_exact)
    engine, *_ = deepspeed.initialize(
        model=module,
        optimizer=optimizer,
        lr_scheduler=build_scheduler(optimizer, config.train),
        config=plan.ds_config,
        dist_init_required=False,
    )
    return engine
