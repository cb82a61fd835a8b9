"""A loaded optimiser obeys the recipe."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mmae.config.schema import TrainConfig
from mmae.engine.checkpoint.contents.hyper_parameters import hyper_parameters, reapply
from mmae.engine.optim import build_scheduler
from mmae.errors import InputError


def engine(train: TrainConfig, steps: int = 0, decays: tuple[float, ...] = (0.05, 0.0)) -> Any:
    groups = [{"params": [torch.nn.Parameter(torch.ones(2))], "weight_decay": decay} for decay in decays]
    optimizer = torch.optim.AdamW(groups, lr=train.lr, betas=train.opt_betas)
    scheduler = build_scheduler(optimizer, train)
    for _ in range(steps):
        optimizer.step()
        scheduler.step()
    return SimpleNamespace(basic_optimizer=optimizer, lr_scheduler=scheduler)


def load(into: Any, source: Any) -> None:
    into.basic_optimizer.load_state_dict(source.basic_optimizer.state_dict())
    into.lr_scheduler.load_state_dict(source.lr_scheduler.state_dict())


def test_unchanged_values_stay_bit_for_bit() -> None:
    train = TrainConfig(max_steps=10, warmup_steps=3, blr=0.3)
    old, new = engine(train, steps=5), engine(train)
    recipe = hyper_parameters(new)
    load(new, old)
    assert reapply(new, recipe) == []
    assert hyper_parameters(new) == hyper_parameters(old)
    for _ in range(3):
        assert [group["lr"] for group in new.basic_optimizer.param_groups] == [
            group["lr"] for group in old.basic_optimizer.param_groups
        ]
        for each in (old, new):
            each.basic_optimizer.step()
            each.lr_scheduler.step()


def test_changed_values_hold_from_the_next_step_on() -> None:
    old = engine(TrainConfig(max_steps=10, blr=0.3), steps=5)
    train = TrainConfig(max_steps=20, blr=0.1, opt_betas=(0.8, 0.9))
    new, expected = engine(train, decays=(0.1, 0.0)), engine(train, steps=5)
    recipe = hyper_parameters(new)
    load(new, old)
    said = reapply(new, recipe)
    assert "group 0: weight_decay 0.05 -> 0.1" in said
    assert "group 1: betas (0.9, 0.95) -> (0.8, 0.9)" in said
    assert len(said) == 5
    assert hyper_parameters(new) == recipe
    assert new.lr_scheduler.get_last_lr() == expected.lr_scheduler.get_last_lr()
    new.lr_scheduler.step()
    expected.lr_scheduler.step()
    assert new.lr_scheduler.get_last_lr() == expected.lr_scheduler.get_last_lr()


def test_another_number_of_groups_is_refused() -> None:
    new = engine(TrainConfig(), decays=(0.05,))
    recipe = hyper_parameters(engine(TrainConfig()))
    with pytest.raises(InputError, match="has 1 parameter groups, but this model has 2"):
        reapply(new, recipe)
