"""How a global batch is spread over ranks and accumulation steps: derived, never configured."""

from __future__ import annotations

from dataclasses import dataclass

from mmae.errors import InputError
from mmae.terminal.plurals import counted


@dataclass(frozen=True)
class BatchSplit:
    """One optimiser step: `world` ranks each run `accumulation` micro-batches of `micro` tiles."""

    micro: int
    accumulation: int
    world: int

    @property
    def global_batch(self) -> int:
        return self.micro * self.accumulation * self.world


def why_smaller(split: BatchSplit, micro_batch: int) -> str:
    """A message that says why a micro-batch is smaller than `train.micro_batch`; empty if it is not."""
    share = split.global_batch // split.world
    if split.micro >= min(micro_batch, share):
        return ""
    better = max(1, round(share / micro_batch)) * micro_batch * split.world
    return (
        f"train.micro_batch={micro_batch} became {split.micro}: each of {split.world} ranks has {share} of "
        f"train.global_batch={split.global_batch} tiles, and {split.micro} is the largest divisor of {share} up to "
        f"{micro_batch}; a global batch of {better} would be {better // (micro_batch * split.world)} x {micro_batch} a "
        "rank"
    )


def split_global_batch(global_batch: int, micro_batch: int, world: int) -> BatchSplit:
    """The split with the fewest accumulation steps whose micro-batch is at most `micro_batch`.

    Raises:
        InputError: `world` does not divide the global batch; the message names the nearest worlds that do.
    """
    if global_batch % world:
        divisors = [n for n in range(1, global_batch + 1) if global_batch % n == 0]
        near = [max(n for n in divisors if n < world), *[n for n in divisors if n > world][:1]]
        raise InputError(
            f"train.global_batch={global_batch} cannot be split over {counted(world, 'rank')}: "
            f"use {' or '.join(map(str, near))} ranks, or another global batch"
        )
    per_rank = global_batch // world
    micro = max(n for n in range(1, min(micro_batch, per_rank) + 1) if per_rank % n == 0)
    return BatchSplit(micro, per_rank // micro, world)
