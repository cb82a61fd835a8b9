"""The schedule against torch's own schedulers, and what AdamW is given."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from mmae.config.schema import ModelConfig, TrainConfig
from mmae.engine.optim import build_optimizer, build_scheduler, cooled_down, lr_factor


@pytest.mark.parametrize(("warmup", "floor"), [(0, 0.0), (5, 0.0), (5, 1e-5), (20, 0.0)])
def test_the_schedule_is_linear_warm_up_and_cosine(warmup: int, floor: float) -> None:
    train = TrainConfig(max_steps=20, warmup_steps=warmup, min_lr=floor, global_batch=256, blr=1e-3)
    parameter = nn.Parameter(torch.zeros(1))
    reference = torch.optim.SGD([parameter], lr=train.lr)
    parts: list[torch.optim.lr_scheduler.LRScheduler] = [
        LinearLR(reference, start_factor=1e-12, total_iters=max(warmup, 1)),
        CosineAnnealingLR(reference, T_max=max(20 - warmup, 1), eta_min=floor),
    ]
    scheduler = SequentialLR(reference, parts, milestones=[warmup])
    for step in range(20):
        assert lr_factor(step, train) * train.lr == pytest.approx(reference.param_groups[0]["lr"], abs=1e-9)
        reference.step()
        scheduler.step()


def test_the_schedule_ends_at_the_floor_and_stays_there() -> None:
    train = TrainConfig(max_steps=10, warmup_steps=2, min_lr=1e-6, global_batch=256, blr=1e-4)
    assert lr_factor(0, train) == 0
    assert lr_factor(2, train) == 1
    assert lr_factor(10, train) == lr_factor(1000, train) == pytest.approx(1e-2)


def test_a_zero_rate_does_not_divide() -> None:
    assert lr_factor(3, TrainConfig(blr=0.0)) == pytest.approx(1.0, abs=1e-3)


def test_lr_follows_the_global_batch_and_decay_the_meaning_of_a_parameter() -> None:
    module = nn.Module()
    module.register_parameter("weight", nn.Parameter(torch.ones(3, 3)))
    module.register_parameter("bias", nn.Parameter(torch.ones(2, 3)))  # stacked: two axes, and still a bias
    train = TrainConfig(global_batch=512, blr=1e-4, warmup_steps=0)
    optimizer = build_optimizer(module, train, ModelConfig())
    decay = {tuple(p.shape): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decay == {(3, 3): 0.05, (2, 3): 0.0}
    assert [group["lr"] for group in optimizer.param_groups] == [2e-4] * len(optimizer.param_groups)
    exact = build_optimizer(module, train, ModelConfig(paper_exact=True))
    assert {group["weight_decay"] for group in exact.param_groups} == {0.05}


def test_a_new_max_steps_reshapes_the_rest_of_the_schedule() -> None:
    parameter = nn.Parameter(torch.zeros(1))
    short = build_scheduler(torch.optim.SGD([parameter], lr=1.0), TrainConfig(max_steps=10))
    for _ in range(5):
        short.optimizer.step()
        short.step()
    long = build_scheduler(torch.optim.SGD([parameter], lr=1.0), TrainConfig(max_steps=100))
    long.load_state_dict(short.state_dict())
    long.optimizer.step()
    long.step()
    assert long.get_last_lr()[0] == pytest.approx(lr_factor(6, TrainConfig(max_steps=100)))


def test_wsd_is_warm_up_a_plateau_and_a_fall_of_either_shape() -> None:
    train = TrainConfig(schedule="wsd", max_steps=20, warmup_steps=4, decay_share=0.4, global_batch=256, blr=1e-3)
    linear, root = (replace(train, decay_shape=shape, min_lr=1e-4) for shape in ("linear", "1-sqrt"))
    assert [lr_factor(step, linear) for step in range(13)] == [0, 0.25, 0.5, 0.75, *[1.0] * 9]
    assert [lr_factor(step, linear) for step in (14, 16, 20, 99)] == pytest.approx([0.775, 0.55, 0.1, 0.1])
    assert [lr_factor(step, root) for step in (12, 14, 20)] == pytest.approx([1.0, 0.1 + 0.9 * (1 - 0.5), 0.1])
    assert lr_factor(10**6, replace(train, decay_share=0.0)) == 1.0


@pytest.mark.parametrize("trunk", [TrainConfig(schedule="wsd", decay_share=0), TrainConfig(schedule="cosine")])
def test_a_cool_down_begins_at_the_rate_of_the_trunk(trunk: TrainConfig) -> None:
    trunk = replace(trunk, max_steps=1000, warmup_steps=30, min_lr=1e-6, stop_at=500)
    for step, decay in ((30, 1), (333, 7), (500, 123)):
        cool = cooled_down(trunk, step, decay)
        assert (cool.max_steps, cool.decay_steps, cool.stop_at) == (step + decay, decay, None)
        assert cool.lr * lr_factor(step, cool) == pytest.approx(trunk.lr * lr_factor(step, trunk), rel=1e-12)
        assert cool.lr * lr_factor(step + decay, cool) == pytest.approx(1e-6)
    if trunk.schedule == "wsd":
        assert cool.blr == trunk.blr
    with pytest.raises(ValueError, match="still rises"):
        cooled_down(trunk, 29, 5)
    if trunk.schedule == "cosine":
        with pytest.raises(ValueError, match="at its end"):
            cooled_down(trunk, 1000, 5)
