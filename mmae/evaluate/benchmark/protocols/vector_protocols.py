"""The protocols on one vector a tile: nearest neighbours, and a linear layer. Every choice is made on validation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from mmae.errors import InputError
from mmae.evaluate.benchmark.protocols.scored_test import ScoredTest
from mmae.evaluate.benchmark.tasks.benchmark_task import TRAIN, VALID, BenchmarkTask, Kind
from mmae.evaluate.frozen.bootstrap import bootstrap
from mmae.evaluate.frozen.methods import Knn, Logistic, Method, Ridge
from mmae.evaluate.frozen.metrics import METRICS
from mmae.evaluate.frozen.parts import Kind as TargetKind
from mmae.evaluate.frozen.parts import Part, Task
from mmae.evaluate.frozen.sweep import Candidate, Choice, probe

if TYPE_CHECKING:
    from mmae.evaluate.benchmark.encoding.tile_features import Vectors

_TARGETS: Final[Mapping[Kind, TargetKind]] = MappingProxyType(
    {"classification": "classes", "multilabel": "labels", "regression": "values"}
)
_OTHERS: Final[Mapping[Kind, tuple[str, ...]]] = MappingProxyType(
    {"classification": ("macro_f1",), "multilabel": ("micro_map", "macro_map"), "regression": ("r2", "mae")}
)
"""Further scores of a task, beside the one that is compared."""
_NORMALISERS: Final = ("none", "zscore")


@dataclass(frozen=True)
class VectorProtocol:
    """One protocol.

    Attributes:
        name: `knn` or `linear`.
        k: number of neighbours.
    """

    name: str
    k: int = 20

    def method(self, kind: Kind) -> Method:
        if self.name == "knn":
            return Knn((float(self.k),))
        return Ridge() if kind == "regression" else Logistic()


def vector_scores(
    task: BenchmarkTask, features: Mapping[str, Vectors], protocol: VectorProtocol, seed: int, device: torch.device
) -> Iterator[ScoredTest]:
    """Fit a protocol on a task's features, and score each of its tests.

    Args:
        features: split -> its vectors.
        seed: of the bootstrap.
        device: that computes.

    Raises:
        InputError: features are not finite, samples are too few, or all are of one class.
    """
    info = task.info
    task.check_data({split: len(each) for split, each in features.items()})
    target = Task(_TARGETS[info.kind], info.outputs)
    _check_classes(task, features[TRAIN].labels)
    metric, method = METRICS[info.metric], protocol.method(info.kind)

    def part(splits: Sequence[str], choice: tuple[int, str]) -> Part:
        x_ND = torch.cat([features[split].by_choice[choice] for split in splits])
        labels = torch.cat([features[split].labels for split in splits])
        return Part(x_ND.to(device), (labels.bool() if info.kind == "multilabel" else labels).to(device))

    # All tests are predicted by one fit.
    candidates = (
        Candidate(*choice, part([TRAIN], choice), part([VALID], choice), part(task.tests, choice))
        for choice in features[TRAIN].by_choice
    )
    try:
        found = probe(target, candidates, method, metric, _NORMALISERS)
    except InputError as error:
        raise InputError(f"{info.name}, {protocol.name}: {error}") from None
    tests_y = part(task.tests, next(iter(features[TRAIN].by_choice))).y
    begin = 0
    for test in task.tests:
        rows = slice(begin, begin + len(features[test]))
        begin = rows.stop
        prediction, y = found.prediction[rows], tests_y[rows]
        others = {name: METRICS[name].compute(prediction, y) for name in _OTHERS[info.kind]}
        yield ScoredTest(
            test, len(y), bootstrap(metric, prediction, y, seed=seed), found.val_score, _said(found.choice), others,
            empty={split: each.empty for split, each in features.items()}, trained=len(features[TRAIN]),
            trials=len(method.settings) * len(_NORMALISERS) * len(features[TRAIN].by_choice),
        )  # fmt: skip


def _check_classes(task: BenchmarkTask, train_y: Tensor) -> None:
    if bool((train_y == train_y[0]).all()):
        raise InputError(
            f"{task.info.name}: all {len(train_y)} training samples of partition {task.partition} have the same label: "
            "nothing can be learnt: choose another partition"
        )


def _said(choice: Choice) -> str:
    return f"block {choice.block}, {choice.pooling}, {choice.normaliser}, {choice.setting:g}"
