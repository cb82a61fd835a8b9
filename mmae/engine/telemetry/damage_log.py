"""Damaged tiles that a run goes on without (`data.on_damage=skip`): each is named, and they are counted."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import torch
from torch import Tensor
from tqdm import tqdm

from mmae.disk.regular_file import append_regular
from mmae.engine.step import StepStats
from mmae.terminal.printable import printable
from mmae.types import Batch

MAX_LINES: Final = 20
"""Lines that a rank prints, at most: a lost shard is thousands of tiles. The file has them all."""


class DamageLog:
    """A rank's own: `damaged_rankR.jsonl` in the run's folder, which exists once there is something to say."""

    def __init__(self, folder: Path, rank: int) -> None:
        self._path = folder / f"damaged_rank{rank}.jsonl"
        self._rank = rank
        self._lines = 0
        self._count: Tensor | int = 0

    def write(self, step: int, batches: Sequence[Batch]) -> None:
        """Name the damaged tiles of a step's micro-batches: a line each on stderr, and in the file."""
        found = [each for batch in batches for each in batch.damaged]
        if not found:
            return
        for each in found[: MAX_LINES - self._lines]:
            _say(
                f"rank {self._rank}, step {step}: left out a damaged tile: {each.shard}: {each.dataset} of row "
                f"{each.row} at byte {each.offset} ({each.what})"
            )
        if self._lines < MAX_LINES <= self._lines + len(found):
            _say(f"rank {self._rank}: further damaged tiles are named in {self._path} only")
        self._lines = min(MAX_LINES, self._lines + len(found))
        try:
            with append_regular(self._path) as file:
                file.write("".join(json.dumps({"step": step, **asdict(each)}) + "\n" for each in found).encode())
        except OSError as error:  # a full disk costs the list, not the training
            _say(f"rank {self._rank}: {self._path}: {error.strerror}: it lacks some tiles")

    def watch(self, step: int, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The same batches; damaged tiles are named as they pass."""
        for batch in batches:
            self.write(step, [batch])
            yield batch

    def count(self, stats: StepStats) -> None:
        """Add what a training step left out over all ranks; does not wait for the device."""
        self._count = self._count + stats.left_out

    def lap(self) -> Tensor:
        """Tiles that training left out over all ranks since the last lap: a scalar, on the device."""
        count, self._count = self._count, 0
        return count if isinstance(count, Tensor) else torch.zeros(())


def _say(line: str) -> None:
    tqdm.write(printable(line), file=sys.stderr)
