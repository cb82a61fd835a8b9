"""Validation: the whole split, with masks that never change, exact over any number of ranks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist

from mmae.config import Config
from mmae.data.loader import validation_batches
from mmae.data.prefetch import on_device
from mmae.data.preprocess import Preprocess
from mmae.data.sets import has_split
from mmae.engine.damage import DamageLog
from mmae.engine.plan import Plan
from mmae.engine.step import prepare
from mmae.engine.val_pictures import Watcher
from mmae.losses import scored
from mmae.types import Batch


def validate_split(
    engine: Any, plan: Plan, preprocess: Preprocess, damage: DamageLog, step: int, watcher: Watcher | None = None
) -> dict[str, float]:
    """The loss of each output over the `val` split of every shard set; empty where none has one.

    Args:
        watcher: is called after each batch, with what the model has just run on.
    """
    config, device = plan.config, engine.device
    if not any(has_split(each.index, "val") for each in plan.tiles.sets):
        return {}
    batches = validation_batches(
        plan.tiles.sets,
        config.model.domains,
        config.data,
        seed=config.train.seed,
        split=plan.split,
        rank=dist.get_rank(),
        pin=device.type == "cuda",
    )
    return validate(engine, damage.watch(step, on_device(batches, device)), preprocess, config, watcher)


@torch.no_grad()
def validate(
    engine: Any, batches: Iterable[Batch], preprocess: Preprocess, config: Config, watcher: Watcher | None = None
) -> dict[str, float]:
    """The loss of each output over every tile of the split that can be scored; NaN where there is none.

    Args:
        batches: this rank's micro-batches on the engine's device; every rank has equally many, padding tiles have
            `real_B` False.
    """
    names = config.model.outputs
    device = engine.device
    sums = torch.zeros(2, len(names), dtype=torch.float64, device=device)
    one_O = torch.ones(len(names), device=device)
    engine.eval()
    for batch in batches:
        inputs, plan = prepare(batch, preprocess, config, train=False)
        _, loss_O, _ = engine(inputs, plan, one_O, 1.0)
        if watcher is not None:
            watcher(inputs, plan)
        sums[0] += loss_O
        sums[1] += scored(inputs, plan, config.model).sum(1)
    engine.train()
    dist.all_reduce(sums)
    return dict(zip(names, (sums[0] / sums[1]).tolist(), strict=True))
