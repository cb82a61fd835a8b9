"""Names and counts damaged tiles that a run leaves out (`data.on_damage=skip`)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from mmae.disk.regular_file import append_regular
from mmae.engine.step import StepStats
from mmae.run.layout import DAMAGED_TILES, of_rank
from mmae.terminal.message import say
from mmae.types import Batch

MAX_LINES: Final = 20
"""A rank prints at most this many lines: a lost shard has thousands of tiles. The file has all of them."""


class DamageLog:
    """One rank's `damaged_rankR.jsonl` in the run's folder. It is created with its first line."""

    def __init__(self, folder: Path, rank: int) -> None:
        self._path = folder / of_rank(DAMAGED_TILES, rank)
        self._rank = rank
        self._lines = 0
        self._count: Tensor | int = 0

    def write(self, step: int, batches: Sequence[Batch]) -> None:
        """Name the damaged tiles of a step's micro-batches, one line each on stderr and in the file."""
        found = [each for batch in batches for each in batch.damaged]
        if not found:
            return
        for each in found[: MAX_LINES - self._lines]:
            say(
                f"rank {self._rank}, step {step}: left out a damaged tile: {each.shard}: {each.dataset} of row "
                f"{each.row} at byte {each.offset} ({each.what})"
            )
        if self._lines < MAX_LINES <= self._lines + len(found):
            say(f"rank {self._rank}: further damaged tiles are named in {self._path} only")
        self._lines = min(MAX_LINES, self._lines + len(found))
        try:
            with append_regular(self._path) as file:
                file.write("".join(json.dumps({"step": step, **asdict(each)}) + "\n" for each in found).encode())
        except OSError as error:  # a full disk costs the list, not the training
            say(f"rank {self._rank}: {self._path}: {error.strerror}: the file lacks some tiles")

    def watch(self, step: int, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yields the same batches, and names their damaged tiles."""
        for batch in batches:
            self.write(step, [batch])
            yield batch

    def count(self, stats: StepStats) -> None:
        """Count the tiles that a step left out on all ranks. Does not wait for the device."""
        self._count = self._count + stats.left_out

    def lap(self) -> Tensor:
        """Number of tiles left out on all ranks since the last lap, a scalar on the device."""
        count, self._count = self._count, 0
        return count if isinstance(count, Tensor) else torch.zeros(())
