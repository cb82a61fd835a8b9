"""The speed of an endless stream of batches, from when it flows."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

import torch

from mmae.types import Batch


def tiles_per_second(batches: Iterable[int], tiles: int, skip: int) -> float:
    """Tiles a second over at least `tiles` of an endless stream of batches' sizes, after the first `skip` batches."""
    stream = iter(batches)
    for _ in range(skip):
        next(stream)
    done = 0
    begin = time.perf_counter()
    while done < tiles:
        done += next(stream)
    return done / (time.perf_counter() - begin)


def sizes(batches: Iterable[Batch | dict[str, torch.Tensor]]) -> Iterator[int]:
    """The number of tiles of each batch."""
    for batch in batches:
        pixels = batch.pixels if isinstance(batch, Batch) else batch
        yield len(next(iter(pixels.values())))
