"""Validation on the whole split, with masks that never change. The result is exact for any number of ranks.

Losses come from the engine's forward pass; `val_scores` sees the predictions of the same pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from mmae.config.schema import Config
from mmae.config.score_names import VAL_IOU, VAL_LOSS, VAL_RMSE
from mmae.data.loading.device_prefetch import on_device
from mmae.data.loading.loader import validation_batches
from mmae.data.sampling.shard_sets import has_split
from mmae.data.transforms.preprocess import Preprocess
from mmae.engine.engine_protocol import Engine
from mmae.engine.step import prepare
from mmae.engine.val_scores import ScoreSums, ValScores, predictions_of
from mmae.losses import scored
from mmae.run.spec import RunSpec
from mmae.types import Batch, Inputs, MaskPlan


@dataclass(frozen=True)
class Validation:
    """The result of a validation. Only `lost_rows` differs between ranks.

    Attributes:
        losses: mean of each output over the tiles that can be scored; None where no tile can be.
        scored: number of tiles that can be scored, by output.
        lost: number of these with a loss that is not finite; outputs without any are absent.
        lost_rows: source rows of such tiles on this rank.
        read: the scores that people read.
    """

    losses: dict[str, float | None]
    scored: dict[str, int]
    lost: dict[str, int]
    lost_rows: dict[str, list[int]]
    read: ValScores = field(default_factory=ValScores)

    @property
    def scores(self) -> dict[str, float]:
        """The finite scores by name (`mmae.config.score_names`). A loss of tiles that are lost in part is none."""
        losses = {name: loss for name, loss in self.losses.items() if loss is not None}
        found: dict[str, float | None] = {f"{VAL_LOSS}.{name}": loss for name, loss in losses.items()}
        found[VAL_LOSS] = sum(losses.values()) if losses else None
        found |= {f"{VAL_IOU}.{name}": mean for name, mean in self.read.mean_iou.items()}
        found |= {f"{VAL_RMSE}.{name}": rmse for name, rmse in self.read.rmse.items()}
        return {name: score for name, score in found.items() if score is not None and math.isfinite(score)}

    @property
    def diverged(self) -> list[str]:
        """Outputs without a finite loss on any tile: the weights are at fault, not the tiles."""
        return [name for name, lost in self.lost.items() if lost == self.scored[name]]


class DamageWatch(Protocol):
    """Names the damaged tiles of batches as they pass."""

    def watch(self, step: int, batches: Iterable[Batch]) -> Iterator[Batch]: ...


def validate_split(
    engine: Engine,
    spec: RunSpec,
    preprocess: Preprocess,
    damage: DamageWatch | None,
    step: int,
    watcher: Watcher | None = None,
) -> Validation | None:
    """Validate on the `val` split of every shard set; None where none has one.

    Args:
        damage: names damaged tiles. None: nobody asks for their names.
        watcher: is called after each batch with the model's inputs.
    """
    config, device = spec.config, engine.device
    if not any(has_split(each.index, "val") for each in spec.tiles.sets):
        return None
    batches = validation_batches(
        spec.tiles.sets,
        config.model.domains,
        config.data,
        seed=config.train.seed,
        split=spec.split,
        rank=dist.get_rank(),
        pin=device.type == "cuda",
    )
    read = on_device(batches, device)
    return validate(engine, read if damage is None else damage.watch(step, read), preprocess, config, watcher)


@torch.no_grad()
def validate(
    engine: Engine, batches: Iterable[Batch], preprocess: Preprocess, config: Config, watcher: Watcher | None = None
) -> Validation:
    """Validate on every tile of the split.

    Args:
        batches: this rank's micro-batches on the engine's device; every rank has equally many, padding tiles have
            `real_B` False.
    """
    names = config.model.outputs
    device = engine.device
    sums = torch.zeros(3, len(names), dtype=torch.float64, device=device)
    rows, lost = list[Tensor](), list[Tensor]()
    one_O = torch.ones(len(names), device=device)
    scores = ScoreSums(config.model, device)
    engine.eval()
    with predictions_of(engine.module.model) as predicted:
        for batch in batches:
            inputs, plan = prepare(batch, preprocess, config, train=False)
            _, loss_O, finite_OB = engine(inputs, plan, one_O, 1.0)
            scores.add(predicted.pop(), inputs, plan, preprocess.units(batch))
            if watcher is not None:
                watcher(inputs, plan)
            scored_OB = scored(inputs, plan, config.model)
            lost_OB = scored_OB & ~finite_OB
            sums += torch.stack([loss_O, scored_OB.sum(1), lost_OB.sum(1)])
            rows.append(batch.row_B)
            lost.append(lost_OB)
    engine.train()
    dist.all_reduce(sums)
    total_O, scored_O, lost_O = (dict(zip(names, numbers, strict=True)) for numbers in sums.tolist())
    return Validation(
        losses={name: total_O[name] / scored_O[name] if scored_O[name] else None for name in names},
        scored={name: int(scored_O[name]) for name in names},
        lost={name: int(count) for name, count in lost_O.items() if count},
        lost_rows=_rows(names, rows, lost) if any(lost_O.values()) else {},
        read=scores.total(),
    )


def _rows(names: Sequence[str], rows: list[Tensor], chosen: list[Tensor]) -> dict[str, list[int]]:
    """The rows of the chosen tiles by output, from (B,) and bool (O, B) for each batch; empty ones are absent."""
    row_B, chosen_OB = torch.cat(rows), torch.cat(chosen, dim=1)
    found = {name: row_B[chosen_B].tolist() for name, chosen_B in zip(names, chosen_OB, strict=True)}
    return {name: each for name, each in found.items() if each}


class Watcher(Protocol):
    """Sees each batch of a validation. It must not raise, and must not run the model."""

    def __call__(self, inputs: Inputs, plan: MaskPlan) -> None: ...
