"""Records the samples of each step, to prove that two runs had the same data, or to find where they first differ.

`samples_rankR.jsonl` has one line for each micro-batch: the step, and for each tile its source row, its random key, and
a hash of the sample (values after crop, flip and normalisation, and the visible tokens).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import xxhash

from mmae.run.layout import SAMPLES, of_rank
from mmae.types import Batch, Inputs, MaskPlan


class SampleLog:
    """Writes to the run's folder. With `on=False` it does nothing."""

    def __init__(self, folder: Path, rank: int, on: bool) -> None:
        self._file: TextIO | None = None
        if on:
            self._file = (folder / of_rank(SAMPLES, rank)).open("a", encoding="utf-8", buffering=1)

    def write(self, step: int, batches: Sequence[Batch], prepared: Sequence[tuple[Inputs, MaskPlan]]) -> None:
        """Record a step's micro-batches. Copies every sample to the host, which is slow: for finding faults."""
        if self._file is None:
            return
        for batch, (inputs, plan) in zip(batches, prepared, strict=True):
            line = {
                "step": step,
                "rows": batch.row_B.tolist(),
                "keys": batch.key_B.tolist(),
                "samples": [_hash(inputs, plan, tile) for tile in range(len(batch.row_B))],
            }
            self._file.write(json.dumps(line) + "\n")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _hash(inputs: Inputs, plan: MaskPlan, tile: int) -> str:
    state = xxhash.xxh3_64()
    for name in sorted(inputs.values):
        state.update(inputs.values[name][tile].cpu().numpy().tobytes())
        state.update(inputs.valid[name][tile].cpu().numpy().tobytes())
    state.update(plan.keep_BK[tile].cpu().numpy().tobytes())
    return state.hexdigest()
