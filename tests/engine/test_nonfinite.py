"""Bad steps are counted and named by what was read of them, and too many of them end the run."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from mmae.engine import nonfinite
from mmae.engine.deferred import DEFERRED_STEPS
from mmae.engine.nonfinite import NonFiniteHandler
from mmae.engine.step import StepStats


class Quarantined:
    """Takes the place of the quarantine."""

    folder = Path("run/quarantine")

    def __init__(self, *_: object) -> None:
        self.written: list[tuple[int, str]] = []

    def write(self, step: int, reason: str, _suspects: object) -> None:
        self.written.append((step, reason))


class FakeEngine:
    """What the handler asks of an engine."""

    device = torch.device("cpu")
    skipped_steps = 0

    def __init__(self) -> None:
        self.basic_optimizer = SimpleNamespace(found_inf=torch.zeros(()))
        self.optimizer = SimpleNamespace()
        self.lr_scheduler = SimpleNamespace(step=lambda: None)
        self.applied = True
        self.norm: torch.Tensor | float | None = torch.tensor(1.0)

    def was_step_applied(self) -> bool:
        return self.applied

    def get_global_grad_norm(self) -> torch.Tensor | float | None:
        return self.norm


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture(params=["bf16"])
def handler(request: pytest.FixtureRequest, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> NonFiniteHandler:
    monkeypatch.setattr(nonfinite, "Quarantine", Quarantined)
    monkeypatch.setattr(nonfinite, "Suspects", lambda *_: None)
    spec = SimpleNamespace(config=SimpleNamespace(train=SimpleNamespace(skip_grad_norm=None)), precision=request.param)
    return NonFiniteHandler(cast(Any, engine), cast(Any, spec), 0)


def stats(loss: float = 1.0, wanted: float = 0.0) -> StepStats:
    return cast(StepStats, SimpleNamespace(
        loss=torch.tensor(loss), loss_O=torch.tensor([loss]), wanted_R=torch.tensor([0.0, wanted]), finite_OB=()
    ))  # fmt: skip


def reasons(handler: NonFiniteHandler) -> list[tuple[int, str]]:
    return cast(Quarantined, handler._quarantine).written


def test_good_steps_give_no_line(handler: NonFiniteHandler, engine: FakeEngine) -> None:
    for step in (1, 2, 3):
        assert handler.after_step(step, stats(), []) == 0
    assert handler.agreed(9, everything=True).bad == 0
    assert reasons(handler) == []
    assert engine.skipped_steps == 0
    assert handler.skipped == 0


def test_a_step_is_read_some_steps_later(handler: NonFiniteHandler) -> None:
    handler.after_step(1, stats(math.nan, wanted=2.0), [])
    assert handler.agreed(1, everything=False).bad == 0
    found = handler.agreed(1 + DEFERRED_STEPS, everything=False)
    assert (found.bad, found.wanted_R) == (1, (0.0, 2.0))


def test_a_wish_to_stop_reads_all_steps_because_a_checkpoint_follows(
    handler: NonFiniteHandler, engine: FakeEngine
) -> None:
    """The checkpoint holds the count of skipped steps, and the tiles of the last ones are not seen again."""
    handler.after_step(1, stats(wanted=1.0), [])
    engine.basic_optimizer.found_inf = torch.tensor(1.0)
    handler.after_step(2, stats(math.nan), [])
    handler.after_step(3, stats(math.nan, wanted=1.0), [])
    found = handler.agreed(1 + DEFERRED_STEPS, everything=False)
    assert (found.bad, found.wanted_R) == (2, (0.0, 2.0))
    assert reasons(handler) == [(2, "loss"), (3, "loss")]
    assert engine.skipped_steps == handler.skipped == 2


@pytest.mark.parametrize(
    ("loss", "flag", "norm", "reason"),
    [
        (math.nan, 1.0, math.nan, "loss"),
        (math.inf, 0.0, 1.0, "loss"),
        (1.0, 1.0, math.nan, "gradient"),
        (1.0, 1.0, 99.0, "norm"),
    ],
)
def test_the_reason_is_named(
    handler: NonFiniteHandler, engine: FakeEngine, loss: float, flag: float, norm: float, reason: str
) -> None:
    engine.basic_optimizer.found_inf = torch.tensor(flag)
    engine.norm = torch.tensor(norm)
    assert handler.after_step(4, stats(loss), []) == flag
    assert handler.agreed(9, everything=True).bad == 1
    assert reasons(handler) == [(4, reason)]
    assert engine.skipped_steps == handler.skipped == flag


def test_a_step_that_deepspeed_skipped_is_counted_once(handler: NonFiniteHandler, engine: FakeEngine) -> None:
    engine.applied, engine.norm = False, None
    assert handler.after_step(1, stats(), []) == 1
    handler.agreed(9, everything=True)
    assert engine.skipped_steps == 0  # DeepSpeed counts it itself
    assert reasons(handler) == [(1, "gradient")]


@pytest.mark.parametrize("handler", ["fp16"], indirect=True)
def test_an_overflow_in_fp16_is_not_a_bad_step(handler: NonFiniteHandler, engine: FakeEngine) -> None:
    engine.applied, engine.norm = False, None
    handler.after_step(1, stats(), [])
    assert handler.agreed(9, everything=True).bad == 0
    assert reasons(handler) == []


def test_only_steps_in_a_row_add_up(handler: NonFiniteHandler) -> None:
    for step, loss in enumerate([math.nan, math.nan, 1.0, math.nan], 1):
        handler.after_step(step, stats(loss), [])
    assert handler.agreed(9, everything=True).bad == 1
    assert [step for step, _ in reasons(handler)] == [1, 2, 4]


def test_the_last_line_says_what_to_do(handler: NonFiniteHandler) -> None:
    handler.after_step(1, stats(math.nan), [])
    handler.agreed(9, everything=True)
    line = handler.despair(1, None)
    assert "1 step in a row" in line
    assert "there is no checkpoint yet: lower train.blr" in line
    assert "the last checkpoint (c/global_step3) is untouched" in handler.divergence(5, ["rgb"], Path("c/global_step3"))
