"""The exponential average of the weights: kept in float32 beside the master weights, and shown in the model on demand.

Where the optimiser's master weights are divided over ranks, so is the average. After each step it moves towards them
by the share 1 - 0.5 ** (global batch / half-life), so that a half-life in tiles means the same for every batch
(Busbridge et al., "How to Scale Your EMA", NeurIPS 2023). It begins at the weights, whose part in it halves with each
half-life.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mmae.config.schema import TrainConfig
from mmae.engine.checkpoint.contents.average_state import AveragePart, open_average
from mmae.engine.deepspeed_internals.optimiser_states import master_flats, master_place
from mmae.engine.deepspeed_internals.sharded_parameters import gathered, whole_shape
from mmae.engine.engine_protocol import Engine


class WeightAverage:
    """Every rank has one, with its part. Create it after the weights are loaded.

    Attributes:
        half_life: in tiles.
        restarted: the checkpoint that the start resumed from had none, so the average begins at its weights.
    """

    def __init__(self, engine: Engine, half_life: int, global_batch: int) -> None:
        self.half_life, self.restarted = half_life, False
        self._engine = engine
        self._rate = rate_of(half_life, global_batch)
        self._masters = master_flats(engine)
        self._flats = [master.detach().clone() for master in self._masters]
        self._trained = {name: each for name, each in engine.module.named_parameters() if each.requires_grad}
        places = {name: master_place(engine, each) for name, each in self._trained.items()}
        self._places = {name: place for name, place in places.items() if place is not None}

    @torch.no_grad()
    def update(self, skipped: Tensor) -> None:
        """Follow a step. Does not wait for the device.

        Args:
            skipped: 1 where the step changed no weight, else 0; a scalar on the device. Then the average stays, too.
        """
        share = self._rate * (1 - skipped)
        for average, master in zip(self._flats, self._masters, strict=True):
            average.lerp_(master, share.to(average.device))

    def parts(self) -> dict[str, AveragePart]:
        """This rank's part of each parameter's average, flat float32; parts that every rank has are rank 0's."""
        return {
            name: AveragePart(place.start, self._flats[place.flat].view(-1)[place.offset :][: place.size])
            for name, place in self._places.items()
            if not place.whole or dist.get_rank() == 0
        }

    def load(self, checkpoint: Path) -> None:
        """Go on with a checkpoint's average, whatever ranks and ZeRO stage wrote it, or note that it has none.

        Raises:
            InputError: its files do not hold every weight.
        """
        stored = open_average(checkpoint)
        self.restarted = stored is None
        if stored is None:
            return
        for name, place in self._places.items():
            numbers = stored.read(name, whole_shape(self._trained[name]).numel(), place.start, place.size)
            self._flats[place.flat].view(-1)[place.offset :][: place.size].copy_(numbers)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Within the context the model computes with the average. Collective. After it its weights are as before.

        An error within it ends the training: the weights are then left as they are, because other ranks might not
        take part in bringing them back.
        """
        # In float32 at stage 0 the model's weights are the master weights.
        same = self._engine.optimizer is self._engine.basic_optimizer
        kept = [master.detach().clone() for master in self._masters] if same else self._masters
        self._write(self._flats)
        yield
        self._write(kept)

    @torch.no_grad()
    def _write(self, flats: Sequence[Tensor]) -> None:
        """Write these master weights into the model, in its own number format."""
        for name, parameter in self._trained.items():
            whole = self._whole(name, parameter, flats).view(whole_shape(parameter))
            with gathered(parameter, modifier_rank=0):
                parameter.copy_(whole)

    def _whole(self, name: str, parameter: nn.Parameter, flats: Sequence[Tensor]) -> Tensor:
        place = self._places.get(name)
        if place is not None and place.whole:
            return flats[place.flat]
        whole = torch.zeros(whole_shape(parameter).numel(), dtype=torch.float32, device=self._engine.device)
        if place is not None:
            part = flats[place.flat].detach().view(-1)[place.offset :][: place.size]
            whole[place.start :][: place.size].copy_(part)
        # Of each number one rank has the bits, all others zeros. As integers, the sum leaves a minus zero as it is.
        dist.all_reduce(whole.view(torch.int32))
        return whole


def start_average(engine: Engine, train: TrainConfig, resumed_from: Path | None) -> WeightAverage | None:
    """The average that a start keeps, loaded from the checkpoint that it resumes from; None where the recipe has none.

    Raises:
        InputError: the checkpoint's average is damaged.
    """
    if train.ema is None:
        return None
    average = WeightAverage(engine, train.ema, train.global_batch)
    if resumed_from is not None:
        average.load(resumed_from)
    return average


def rate_of(half_life: int, global_batch: int) -> float:
    """The share by which an average moves towards the weights in a step."""
    return -math.expm1(-math.log(2) * global_batch / half_life)
