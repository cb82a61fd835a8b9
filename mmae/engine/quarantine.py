"""Tiles that may have caused a bad step: `quarantine/rank_N.jsonl` in the run's folder.

There is one line for each step and output: step, reason (loss, gradient, norm), modality (null where only the gradient
is bad), keys of the tiles' random draws, their source rows and shards. Each rank writes about its own tiles. For a
validation (reason validation) a line names the source rows of tiles with a loss that is not finite.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

from mmae.data.sampling.order import rank_slices
from mmae.disk.regular_file import append_regular
from mmae.run.layout import QUARANTINE, QUARANTINED, of_rank
from mmae.run.spec import RunSpec
from mmae.terminal.message import say
from mmae.types import Batch

MAX_LINES: Final = 20
"""A rank prints at most this many lines. The file has all of them."""


class Suspects:
    """The tiles that a rank had in a step, and which of their losses were finite. Stays on the device until read."""

    def __init__(self, batches: Sequence[Batch], finite_OB: Sequence[Tensor]) -> None:
        self._keys = [batch.key_B for batch in batches]
        self._rows = [batch.row_B for batch in batches]
        self._finite_OB = finite_OB

    def read(self) -> tuple[list[int], list[int], Tensor]:
        """Keys and rows of the step's tiles, and bool (O, B) of them all. Waits for the device."""
        return (
            torch.cat(self._keys).tolist(),
            torch.cat(self._rows).tolist(),
            torch.cat(list(self._finite_OB), dim=1).cpu(),
        )


class Quarantine:
    """One rank's file. It is created with its first line."""

    def __init__(self, spec: RunSpec, rank: int) -> None:
        self._spec = spec
        self._rank = rank
        self.folder = spec.folder.path / QUARANTINE
        self._path = self.folder / of_rank(QUARANTINED, rank)
        self._lines = 0

    def write(self, step: int, reason: str, suspects: Suspects) -> None:
        """Name the tiles with a loss that is not finite; all tiles of the step where every loss is finite.

        Args:
            step: counted from 1, as in log.jsonl.
            reason: loss, gradient or norm.
        """
        keys, rows, finite_OB = suspects.read()
        if reason == "loss":
            named: list[tuple[str | None, list[int]]] = [
                (name, torch.nonzero(~finite_B).flatten().tolist())
                for name, finite_B in zip(self._spec.config.model.outputs, finite_OB, strict=True)
            ]
        else:
            named = [(None, list(range(len(keys))))]
        shards = self._shards(step)
        for modality, tiles in named:
            if tiles:
                self._append(
                    {
                        "step": step,
                        "reason": reason,
                        "modality": modality,
                        "keys": [keys[tile] for tile in tiles],
                        "rows": [rows[tile] for tile in tiles],
                        "shards": [shards[tile] for tile in tiles],
                    }
                )
                self._say(step, reason, modality, [f"{rows[tile]} ({shards[tile]})" for tile in tiles])

    def write_validation(self, step: int, rows: Mapping[str, Sequence[int]]) -> None:
        """Name the tiles of a validation with a loss that is not finite, by output."""
        for modality, lost in rows.items():
            self._append({"step": step, "reason": "validation", "modality": modality, "rows": list(lost)})
            self._say(step, "validation", modality, [str(row) for row in lost])

    def _append(self, record: dict[str, object]) -> None:
        try:
            self._path.parent.mkdir(exist_ok=True)
            with append_regular(self._path) as file:
                file.write(f"{json.dumps(record)}\n".encode())
        except OSError as error:  # a full disk costs the list, not the training
            say(f"rank {self._rank}: {self._path}: {error.strerror}: not written: {record}")

    def _say(self, step: int, reason: str, modality: str | None, tiles: list[str]) -> None:
        self._lines += 1
        if self._lines > MAX_LINES:
            return
        what = {
            "loss": f"the loss of {modality} is not finite for row",
            "validation": f"the validation loss of {modality} is not finite for row",
            "gradient": "the gradient is not finite; among the tiles are row",
            "norm": "the gradient's norm is above train.skip_grad_norm; among the tiles are row",
        }[reason]
        more = f" and {len(tiles) - 3} more, see {self._path}" if len(tiles) > 3 else ""
        last = f"; further ones are named in {self._path} only" if self._lines == MAX_LINES else ""
        say(f"rank {self._rank}, step {step}: {what} {', '.join(tiles[:3])}{more}{last}")

    def _shards(self, step: int) -> list[str]:
        """The shard of each of this rank's tiles in a step. The step alone decides which tiles they are."""
        spec = self._spec
        epoch, slots = spec.order.global_batch_at(step - 1)
        mine = np.concatenate([slots[part] for part in rank_slices(spec.split, self._rank)])
        places = spec.tiles.locate(epoch, mine)
        indexes = [each.index for each in spec.tiles.sets]
        return [
            indexes[number].shards[int(indexes[number].shard[tile])].name
            for number, tile in zip(places.set_B.tolist(), places.tile_B.tolist(), strict=True)
        ]
