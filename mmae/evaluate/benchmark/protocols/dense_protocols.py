"""The protocols with an answer for each pixel: a head is trained on the maps of a frozen encoder.

`linear-seg` is one linear layer on each token of the last block, and `upernet` reads four blocks. The epoch with the
best score on validation is taken.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor
from torch.nn import functional

from mmae.config.finetune_schema import HeadKind
from mmae.errors import InputError
from mmae.evaluate.benchmark.encoding.map_batches import MapBatches
from mmae.evaluate.benchmark.protocols.dense_score import RMSE, TileCounts, dense_metric
from mmae.evaluate.benchmark.protocols.scored_test import ScoredTest
from mmae.evaluate.benchmark.tasks.benchmark_task import NOT_SCORED, TRAIN, VALID
from mmae.evaluate.frozen.bootstrap import bootstrap
from mmae.model.heads.build_head import build_head
from mmae.model.heads.head import EncoderShape
from mmae.model.heads.head_options import HeadOptions

if TYPE_CHECKING:
    from mmae.evaluate.benchmark.encoding.tile_features import TileFeatures
    from mmae.evaluate.benchmark.tasks.benchmark_task import BenchmarkTask
    from mmae.model.heads.head import Head

HEADS: Final = MappingProxyType[str, HeadKind]({"linear-seg": "patch_linear", "upernet": "upernet"})


@dataclass(frozen=True)
class DenseProtocol:
    """How a head is trained.

    Attributes:
        name: `linear-seg` or `upernet`.
        width: channels inside UPerNet; None: its default.
    """

    name: str
    epochs: int = 10
    lr: float = 1e-3
    weight_decay: float = 0.05
    batch_size: int = 8
    width: int | None = None
    memory_gb: float = 4.0

    def head(self, shape: EncoderShape, outputs: int, seed: int) -> Head:
        width = self.width if self.name == "upernet" else None
        return build_head(HeadOptions(HEADS[self.name], width=width), shape, outputs, seed)


def dense_scores(features: TileFeatures, protocol: DenseProtocol, seed: int) -> Iterator[ScoredTest]:
    """Train a protocol's head on a task's training tiles, and score each of its tests.

    Args:
        seed: of the head's weights, of the order of tiles, and of the bootstrap.

    Raises:
        InputError: features are not finite, or all pixels are of one class.
    """
    task, encoder = features.task, features.inputs.encoder
    device = next(encoder.model.parameters()).device
    head = protocol.head(EncoderShape.of(encoder.model), task.info.outputs, seed).to(device)
    batches = MapBatches(features, head.blocks, protocol.memory_gb)
    targets = Targets.of(task, batches)
    best, chosen, epoch_of = _trained(head, batches, targets, protocol, seed, device)
    head.load_state_dict(chosen)
    metric = dense_metric(task.info)
    for test in task.tests:
        counts = _counts(head, batches, task.splits[test], targets, device)
        empty = {split: len(batches.empty.intersection(ids)) for split, ids in task.splits.items()}
        task.check_data({test: len(counts.rows)})
        yield ScoredTest(
            test, len(counts.rows), bootstrap(metric, counts.rows, torch.zeros(len(counts.rows)), seed=seed), best,
            f"epoch {epoch_of} of {protocol.epochs}", counts.others(), empty, len(task.splits[TRAIN]) - empty[TRAIN],
            protocol.epochs, protocol.batch_size, protocol.weight_decay, protocol.lr,
        )  # fmt: skip


@dataclass(frozen=True)
class Targets:
    """The labels of pixels as a head learns them.

    Attributes:
        values: whether they are numbers, which are standardised, or classes.
        outputs: classes, or 1.
        mean, deviation: of the training pixels' numbers.
    """

    values: bool
    outputs: int
    mean: float = 0.0
    deviation: float = 1.0

    @classmethod
    def of(cls, task: BenchmarkTask, batches: MapBatches) -> Targets:
        """Look at the training labels.

        Raises:
            InputError: they are all the same.
        """
        info = task.info
        train = task.splits[TRAIN]
        labels = torch.cat([each.flatten() for each in batches.labels(train)])
        task.check_data({TRAIN: len(train) - len(batches.empty.intersection(train))})
        if info.kind == "segmentation":
            if _is_constant(labels[labels != NOT_SCORED]):
                raise InputError(
                    f"{info.name}: all training pixels of partition {task.partition} are of one class: nothing can be "
                    "learnt: choose another partition"
                )
            return cls(False, info.outputs)
        known = labels[torch.isfinite(labels)].double()
        deviation = float(known.std(correction=0)) if len(known) else 0.0
        if not deviation > 0:
            raise InputError(f"{info.name}: all training pixels of partition {task.partition} hold the same number")
        return cls(True, 1, float(known.mean()), deviation)

    def loss(self, out_BKHW: Tensor, labels_BHW: Tensor) -> Tensor:
        """The mean over pixels that have a label; 0 where none has."""
        if self.values:
            wanted = (labels_BHW - self.mean) / self.deviation
            known = torch.isfinite(wanted)
            return torch.where(known, out_BKHW[:, 0] - wanted.nan_to_num(), 0).square().sum() / known.sum().clamp(min=1)
        loss = functional.cross_entropy(out_BKHW, labels_BHW, ignore_index=NOT_SCORED, reduction="sum")
        return loss / (labels_BHW != NOT_SCORED).sum().clamp(min=1)

    def counts(self, out_BKHW: Tensor, labels_BHW: Tensor) -> Tensor:
        """What scores are made of, a row a tile, float64."""
        if self.values:
            return TileCounts.of_values(out_BKHW[:, 0] * self.deviation + self.mean, labels_BHW)
        return TileCounts.of_classes(out_BKHW.argmax(1), labels_BHW, self.outputs)


def _trained(
    head: Head, batches: MapBatches, targets: Targets, protocol: DenseProtocol, seed: int, device: torch.device
) -> tuple[float, dict[str, Tensor], int]:
    """The best score on validation, the weights that reached it, and after which epoch."""
    task = batches.task
    metric = dense_metric(task.info)
    train: Sequence[str] = task.splits[TRAIN]
    steps = protocol.epochs * math.ceil(len(train) / protocol.batch_size)
    optimiser = torch.optim.AdamW(head.parameters(), protocol.lr, weight_decay=protocol.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    generator = torch.Generator().manual_seed(seed)
    best: tuple[float, dict[str, Tensor], int] = (math.nan, copy.deepcopy(head.state_dict()), 0)
    for epoch in range(1, protocol.epochs + 1):
        head.train()
        order = torch.randperm(len(train), generator=generator).tolist()
        ids = [train[number] for number in order]
        for start in range(0, len(ids), protocol.batch_size):
            encoded, labels_BHW = batches.batch(ids[start : start + protocol.batch_size], device)
            loss = targets.loss(_cropped(head(encoded), labels_BHW), labels_BHW)
            if not bool(torch.isfinite(loss)):
                raise InputError(
                    f"{task.info.name}, {protocol.name}: the loss is not finite in epoch {epoch}: say a smaller --lr "
                    f"than {protocol.lr:g}"
                )
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
        counts = _counts(head, batches, task.splits[VALID], targets, device)
        score = metric.compute(counts.rows, torch.zeros(len(counts.rows)))
        if metric.is_better(score, best[0]):
            best = (score, copy.deepcopy(head.state_dict()), epoch)
    if not best[2]:
        raise InputError(
            f"{task.info.name}, {protocol.name}: no pixel of the validation samples has a label, so that no epoch can "
            "be chosen: leave the task out"
        )
    return best


def _counts(head: Head, batches: MapBatches, ids: Sequence[str], targets: Targets, device: torch.device) -> TileCounts:
    """The counts of tiles that hold data in some input."""
    head.eval()
    found = []
    with torch.no_grad():
        for start in range(0, len(ids), batches.features.batch):
            encoded, labels_BHW = batches.batch(ids[start : start + batches.features.batch], device)
            found.append(targets.counts(_cropped(head(encoded), labels_BHW), labels_BHW).cpu())
    seen_M = torch.tensor([each not in batches.empty for each in ids])
    return TileCounts(torch.cat(found)[seen_M], RMSE if targets.values else "miou")


def _is_constant(labels: Tensor) -> bool:
    return not len(labels) or bool((labels == labels[0]).all())


def _cropped(out_BKHW: Tensor, labels_BHW: Tensor) -> Tensor:
    """Without the pixels of windows that lie beyond the tile."""
    return out_BKHW[..., : labels_BHW.shape[-2], : labels_BHW.shape[-1]]
