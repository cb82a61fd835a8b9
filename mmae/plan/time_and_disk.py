"""Time of a run, its files on disk, and the speed that its loaders need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mmae.config.schema import Config
from mmae.model.counts.block_matrices import muon_matrices
from mmae.model.counts.flops import training_flops_per_tile
from mmae.model.counts.named_parts import frozen_parts
from mmae.plan.activations import FLOAT
from mmae.plan.measured import HOST_SECONDS_A_BLOCK, LOADER_TILES_PER_CORE, slowdown


@dataclass(frozen=True)
class Speed:
    """The speed of a GPU: the share `mfu` of `peak_flops` operations a second."""

    mfu: float
    peak_flops: float


@dataclass(frozen=True)
class Pace:
    """Seconds of one micro-batch without the network: those of a GPU, and those in which its host starts the work."""

    device: float
    host: float

    @property
    def seconds(self) -> float:
        """The longer one."""
        return max(self.device, self.host)


def pace_of(config: Config, how: Literal["none", "selective", "full"], micro: int, speed: Speed) -> Pace:
    """The pace of one GPU with micro-batches of `micro` tiles."""
    slower = slowdown(how, config.train)
    device = micro * training_flops_per_tile(config.model, frozen=frozen_parts(config)) / (speed.mfu * speed.peak_flops)
    return Pace(slower * device, slower * HOST_SECONDS_A_BLOCK[config.train.compile] * config.model.variant.depth)


def muon_flops(config: Config, stage: int, world: int) -> int:
    """Operations of Muon's step on the rank that has most of them; 0 with AdamW, whose step multiplies no matrices.

    Ranks divide the matrices at stages 1 and 2, but each of two that share one makes all of its products.
    """
    each = [matrices.flops for matrices in muon_matrices(config)]
    if stage == 0 or world == 1:
        return sum(each)
    return min(sum(each), sum(each) // world + max(each, default=0))


def checkpoint_bytes(numbers: int, stage: int, number_bytes: int, averaged: bool = False, frozen: int = 0) -> int:
    """Bytes of a checkpoint: master weights and two moments, and below stage 3 the weights in the compute dtype.

    In float32 at stage 0 the weights are their own masters.

    Args:
        numbers: that learn.
        averaged: it holds averaged weights, too (`train.ema`).
        frozen: numbers that do not learn (`train.frozen`): DeepSpeed's files hold them, and one that all ranks read.
    """
    states = (4 if averaged else 3) * FLOAT * numbers + 2 * frozen * number_bytes
    if stage == 3 or (stage == 0 and number_bytes == FLOAT):
        return states
    return states + numbers * number_bytes


def loader_cores(tiles_per_second_a_node: float, codec: str) -> float:
    """Cores that decode this many tiles a second, by the measured speed of one."""
    return tiles_per_second_a_node / LOADER_TILES_PER_CORE.get(codec, LOADER_TILES_PER_CORE["small"])
