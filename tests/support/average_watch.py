"""Follows a training's averaged weights in float64, within each rank."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from mmae.engine.average.weight_average import WeightAverage


@contextmanager
def beside_float64(run: Path) -> Iterator[None]:
    """Each rank compares its part with a plain loop after every step, and counts the steps in a file of the run."""
    update, own = WeightAverage.update, dict[int, list[Tensor]]()
    steps = [0]

    def followed(self: Any, skipped: Tensor) -> None:
        kept = own.setdefault(id(self), [flat.double() for flat in self._flats])
        update(self, skipped)
        if not bool(skipped):
            decay = 0.5 ** (self._engine.train_batch_size() / self.half_life)
            for average, master in zip(kept, self._masters, strict=True):
                average.mul_(decay).add_(master.detach().double(), alpha=1 - decay)
        for average, seen in zip(kept, self._flats, strict=True):
            torch.testing.assert_close(seen.double(), average, rtol=1e-5, atol=1e-7)
        steps[0] += 1

    with patch.object(WeightAverage, "update", followed):
        yield
    (run / f"followed-{torch.distributed.get_rank()}-{steps[0]}").touch()
