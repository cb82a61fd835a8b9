"""DeepSpeed's engine on CPUs around the smallest module: its gradients are the numbers that a step is given."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import deepspeed
import pytest
import torch
from deepspeed.utils import groups
from torch import Tensor, nn

from mmae.distributed.process_group import join, leave
from tests.support.commands import free_port

SHAPES = ((7,), (3, 5), (64,))
STAGES = (0, 1, 2, 3)
ON_ENGINES = [
    pytest.mark.process,
    pytest.mark.usefixtures("group"),
    pytest.mark.filterwarnings("ignore:`torch.distributed:FutureWarning"),
]
"""Marks of a file whose tests make engines, in a folder with a fixture `group`."""


class Dots(nn.Module):
    """The sum of products with given numbers, which are therefore its gradients."""

    def __init__(self, shapes: Sequence[tuple[int, ...]] = SHAPES) -> None:
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(torch.ones(shape)) for shape in shapes])

    def forward(self, factors: list[Tensor]) -> Tensor:
        products = [(w * f.to(w.dtype)).sum() for w, f in zip(self.weights, factors, strict=True)]
        return torch.stack(products).float().sum()


def engine_of(
    stage: int,
    precision: str = "bf16",
    clip: float = 1.0,
    shapes: Sequence[tuple[int, ...]] = SHAPES,
    **options: Any,
) -> Any:
    """An engine as DeepSpeed makes it, with two groups of parameters, AdamW and a schedule.

    Args:
        options: keys of the section of bf16 or fp16.
    """
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_clipping": clip,
        "zero_optimization": {"stage": stage, "memory_efficient_linear": False},
    }
    if precision != "fp32":
        config[precision] = {"enabled": True, **options}
    with deepspeed.zero.Init(config_dict_or_path=config, enabled=stage == 3):
        module = Dots(shapes)
    weights = list(module.weights)
    parts: list[dict[str, Any]] = [{"params": weights[:2], "weight_decay": 0.1}, {"params": weights[2:]}]
    optimizer = torch.optim.AdamW(parts, lr=0.1, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    engine, *_ = deepspeed.initialize(
        model=module, optimizer=optimizer, lr_scheduler=schedule, config=config, dist_init_required=False
    )
    return engine


def factors(seed: int, scale: float = 1.0, shapes: Sequence[tuple[int, ...]] = SHAPES) -> list[Tensor]:
    """Numbers for a step: its gradients."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) * scale for shape in shapes]


def take_step(engine: Any, given: list[Tensor]) -> None:
    engine.backward(engine(given))
    engine.step()


def held(engine: Any) -> list[Tensor]:
    """Copies of weights, master weights, moments and counts."""
    parameters = list(engine.module.parameters())
    with deepspeed.zero.GatheredParameters(parameters, enabled=engine.zero_optimization_stage() == 3):
        weights = [each.detach().clone() for each in parameters]
    state = [(master, *values.values()) for master, values in engine.basic_optimizer.state.items()]
    return [*weights, *(each.detach().clone() for tensors in state for each in tensors)]


def join_as(rank: int, world: int, port: int) -> None:
    """Make this process a rank of DeepSpeed's group."""
    said = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in said.items()})
    join()


@contextmanager
def group_of_one() -> Iterator[None]:
    """DeepSpeed's process group with this process as its only rank."""
    # The commands of later tests would inherit what joining sets; and DeepSpeed keeps the group of earlier engines.
    with patch.dict(os.environ), patch.object(groups, "_WORLD_GROUP", None):
        join_as(0, 1, free_port())
        yield
        leave()
