"""What a protocol says about one test of a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmae.evaluate.frozen.bootstrap import Interval


@dataclass(frozen=True)
class ScoredTest:
    """A score with its interval, and how it came about.

    Attributes:
        test: the name of the test split.
        samples: how many of the test are scored.
        interval: of the task's metric.
        val_score: by which the choice was made.
        choice: what validation chose, in words.
        others: further metrics.
        empty: split -> samples that are neither fitted nor scored, because they hold no data in any input.
        trained: samples that were fitted; None: all of the training split.
        trials: settings that were compared on validation.
        batch_size, weight_decay, lr: of a training; None where there is none.
        seconds, peak_mb: of a command of its own, and of its first process; None: this command measures them.
        modalities: that its model has; empty: they are those of the features.
    """

    test: str
    samples: int
    interval: Interval
    val_score: float
    choice: str
    others: Mapping[str, float] = field(default_factory=dict)
    empty: Mapping[str, int] = field(default_factory=dict)
    trained: int | None = None
    trials: int = 1
    batch_size: int | None = None
    weight_decay: float | None = None
    lr: float | None = None
    seconds: float | None = None
    peak_mb: float | None = None
    modalities: tuple[str, ...] = ()
