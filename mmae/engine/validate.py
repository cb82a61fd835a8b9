"""Validation: the whole split, with masks that never change, exact over any number of ranks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist

from mmae.config import Config
from mmae.data.loader import validation_batches
from mmae.data.preprocess import Preprocess
from mmae.engine.plan import Plan
from mmae.engine.step import prepare
from mmae.losses import scored
from mmae.types import Batch


def validate_split(engine: Any, plan: Plan, preprocess: Preprocess, pin: bool) -> dict[str, float]:
    """The loss of each output over the `val` split; empty where the shards have none."""
    config = plan.config
    if not any(shard.split == "val" for shard in plan.index.shards):
        return {}
    batches = validation_batches(
        plan.index,
        config.model.domains,
        config.data,
        seed=config.train.seed,
        split=plan.split,
        rank=dist.get_rank(),
        pin=pin,
    )
    return validate(engine, batches, preprocess, config)


@torch.no_grad()
def validate(engine: Any, batches: Iterable[Batch], preprocess: Preprocess, config: Config) -> dict[str, float]:
    """The loss of each output over every tile of the split that can be scored; NaN where there is none.

    Args:
        batches: this rank's micro-batches; every rank has equally many, padding tiles have `real_B` False.
    """
    names = config.model.outputs
    device = engine.device
    sums = torch.zeros(2, len(names), dtype=torch.float64, device=device)
    one_O = torch.ones(len(names), device=device)
    engine.eval()
    for batch in batches:
        inputs, plan = prepare(batch.to(device), preprocess, config, train=False)
        _, loss_O = engine(inputs, plan, one_O, 1.0)
        sums[0] += loss_O
        sums[1] += scored(inputs, plan, config.model).sum(1)
    engine.train()
    dist.all_reduce(sums)
    return dict(zip(names, (sums[0] / sums[1]).tolist(), strict=True))
