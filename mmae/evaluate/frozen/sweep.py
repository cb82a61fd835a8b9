"""The protocol of a probe: every choice is made on validation rows, and the test rows are asked once.

For each candidate (an encoder block and a pooling), normaliser and setting, the method is fitted on the training rows
and scored on the validation rows. The best is fitted again on both, and predicts the test rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmae.errors import InputError
from mmae.evaluate.frozen.methods import Method, check_kind
from mmae.evaluate.frozen.metrics import Metric
from mmae.evaluate.frozen.normalisers import NORMALISERS, fit_normaliser
from mmae.evaluate.frozen.parts import Part, Task


@dataclass(frozen=True, eq=False)
class Candidate:
    """Features of all rows, made in one way.

    Attributes:
        block: the encoder block; -1 where features come from no encoder.
        pooling: how tokens became one vector.
    """

    block: int
    pooling: str
    train: Part
    val: Part
    test: Part


@dataclass(frozen=True)
class Choice:
    """What validation chose. `setting` is the method's: k, C or alpha."""

    block: int
    pooling: str
    normaliser: str
    setting: float


@dataclass(frozen=True, eq=False)
class Probed:
    """Attributes:
    choice: what was chosen.
    val_score: of the choice on the validation rows, before these joined the training rows.
    prediction: for the test rows, as in `methods.py`, float64.
    """

    choice: Choice
    val_score: float
    prediction: Tensor


def probe(
    task: Task,
    candidates: Iterable[Candidate],
    method: Method,
    metric: Metric,
    normalisers: Sequence[str] = NORMALISERS,
) -> Probed:
    """Choose on validation, fit again on train and val, and predict test. A tie is decided by the order of candidates.

    Raises:
        InputError: features that are not finite; rows that are too few; a method or metric for other targets.
    """
    check_kind(method, task)
    best: tuple[Choice, float, Candidate] | None = None
    for candidate in candidates:
        check_finite(candidate)
        for normaliser in normalisers:
            scores = _val_scores(task, candidate, method, metric, normaliser)
            for setting, score in zip(method.settings, scores, strict=True):
                if best is None or metric.is_better(score, best[1]):
                    choice = Choice(candidate.block, candidate.pooling, normaliser, setting)
                    best = (choice, score, candidate)
    if best is None:
        raise ValueError("no candidate")
    choice, score, chosen = best
    return Probed(choice, score, _test_prediction(task, chosen, method, choice))


def check_finite(candidate: Candidate) -> None:
    """Raise InputError if features are not finite."""
    for name, part in (("train", candidate.train), ("val", candidate.val), ("test", candidate.test)):
        bad = int((~torch.isfinite(part.x_ND).all(1)).sum())
        if bad:
            where = f"block {candidate.block}, {candidate.pooling}" if candidate.block >= 0 else candidate.pooling
            raise InputError(
                f"features of {bad} of {len(part)} rows of {name} are not finite ({where}): the weights have "
                "diverged, or a tile holds no data"
            )


def _val_scores(task: Task, candidate: Candidate, method: Method, metric: Metric, normaliser: str) -> list[float]:
    normalise = fit_normaliser(normaliser, candidate.train.x_ND)
    train = candidate.train.with_features(normalise(candidate.train.x_ND))
    found = method.predictions(task, train, normalise(candidate.val.x_ND), method.settings)
    return [metric.compute(prediction, candidate.val.y) for prediction in found]


def _test_prediction(task: Task, candidate: Candidate, method: Method, choice: Choice) -> Tensor:
    both = candidate.train.joined(candidate.val)
    normalise = fit_normaliser(choice.normaliser, both.x_ND)
    both = both.with_features(normalise(both.x_ND))
    return next(iter(method.predictions(task, both, normalise(candidate.test.x_ND), [choice.setting])))
