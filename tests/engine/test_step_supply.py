"""Steps that are prepared while the one before them runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch

from mmae.data.transforms.preprocess import Preprocess
from mmae.distributed.watchdog import Watchdog
from mmae.engine.step_supply import StepSupply
from mmae.engine.telemetry.step_timer import StepTimer
from mmae.types import Batch
from tests.support.step_case import STATS, config, cut, tiles

Events = list[Any]


class NotedWatchdog(Watchdog):
    """Writes down what it is told."""

    def __init__(self, events: Events) -> None:
        super().__init__(0, 1, 0.0)
        self._events = events

    def at(self, step: int, phase: str) -> None:
        self._events.append((step, phase))


Make = Callable[[Iterator[Batch]], StepSupply]


@pytest.fixture
def events() -> Events:
    return []


@pytest.fixture
def supply_of(events: Events) -> Make:
    cfg = config()
    preprocess = Preprocess(cfg.data, cfg.model, STATS, torch.device("cpu"))
    return lambda batches: StepSupply(partial(StepTimer(0).take, batches, 2), preprocess, cfg, NotedWatchdog(events))


def read(events: Events, batches: list[Batch], error: Exception | None = None) -> Iterator[Batch]:
    for number, batch in enumerate(batches):
        events.append(number)
        yield batch
    if error is not None:
        raise error


def test_prepared_in_advance_or_not_steps_are_the_same(supply_of: Make, events: Events) -> None:
    batches = cut(tiles(8), 4)
    plain, ahead = supply_of(iter(batches)), supply_of(read(events, batches))
    expected = [plain.take(), plain.take()]
    found = [ahead.take()]
    ahead.prepare_next(7)
    assert events == [0, 1, (7, "data"), 2, 3, (7, "step")]
    found.append(ahead.take())
    assert len(events) == 6
    for one, other in zip(found, expected, strict=True):
        assert [batch.row_B.tolist() for batch in one.batches] == [batch.row_B.tolist() for batch in other.batches]
        for (inputs, plan), (others, other_plan) in zip(one.prepared, other.prepared, strict=True):
            assert torch.equal(plan.keep_BK, other_plan.keep_BK)
            assert all(torch.equal(value, others.values[name]) for name, value in inputs.values.items())


def test_what_fails_in_advance_fails_in_its_own_step(supply_of: Make, events: Events) -> None:
    supply = supply_of(read(events, cut(tiles(4), 2), ValueError("a torn tile")))
    supply.take()
    supply.prepare_next(1)
    assert events[-1] == (1, "step")
    with pytest.raises(ValueError, match="a torn tile"):
        supply.take()
