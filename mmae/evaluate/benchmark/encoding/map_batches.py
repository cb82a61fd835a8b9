"""Batches of token maps in any order: kept in memory as far as that is allowed, and encoded again where it is not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmae.evaluate.benchmark.tasks.benchmark_task import NOT_SCORED
from mmae.model.heads.block_outputs import BlockOutputs

if TYPE_CHECKING:
    from mmae.evaluate.benchmark.encoding.tile_features import TileFeatures
    from mmae.evaluate.benchmark.tasks.benchmark_task import BenchmarkTask

_Entry = tuple[tuple[Tensor, ...], tuple[Tensor, ...], Tensor, Tensor]
"""Of one tile: maps (D, h, w), global tokens (G, D), weights (h, w), labels."""


class MapBatches:
    """The maps of one task's tiles.

    Attributes:
        features: that are encoded.
        blocks: of the encoder.
        empty: the tiles, of those encoded so far, that hold no data in any input; no pixel of theirs is scored.
    """

    def __init__(self, features: TileFeatures, blocks: Sequence[int], memory_gb: float) -> None:
        self.features, self.blocks = features, tuple(blocks)
        self.empty: set[str] = set()
        self._left = memory_gb * 1e9
        self._kept: dict[str, _Entry] = {}

    @property
    def task(self) -> BenchmarkTask:
        return self.features.task

    def batch(self, ids: Sequence[str], device: torch.device) -> tuple[BlockOutputs, Tensor]:
        """The maps and labels of tiles, in their order, on a device."""
        entries = self._entries(ids)
        maps, global_tokens, weights, labels = zip(*entries, strict=True)
        outputs = BlockOutputs(
            tuple(torch.stack(each).to(device) for each in zip(*maps, strict=True)),
            tuple(torch.stack(each).to(device) for each in zip(*global_tokens, strict=True)),
            torch.stack(weights).to(device),
        )
        return outputs, torch.stack(labels).to(device)

    def labels(self, ids: Sequence[str]) -> Iterator[Tensor]:
        """The labels of tiles, one after the other."""
        size = self.features.batch
        for start in range(0, len(ids), size):
            yield from (entry[3] for entry in self._entries(ids[start : start + size]))

    def _entries(self, ids: Sequence[str]) -> list[_Entry]:
        missing = [each for each in ids if each not in self._kept]
        found = dict(zip(missing, self._encoded(missing), strict=True))
        for name, entry in found.items():
            size = sum(each.nbytes for each in (*entry[0], *entry[1], *entry[2:]))
            if size <= self._left:
                self._kept[name] = entry
                self._left -= size
        return [self._kept[each] if each in self._kept else found[each] for each in ids]

    def _encoded(self, ids: Sequence[str]) -> Iterator[_Entry]:
        names = iter(ids)
        for outputs, labels in self.features.maps(ids, self.blocks):
            for tile in range(len(labels)):
                weight = (
                    torch.ones(outputs.maps[0].shape[-2:]) if outputs.weight_Bhw is None else outputs.weight_Bhw[tile]
                )
                name = next(names)
                if not bool(weight.any()):
                    self.empty.add(name)
                    labels[tile] = NOT_SCORED if self.task.info.kind == "segmentation" else torch.nan
                # A slice would keep the memory of its whole batch.
                yield (
                    tuple(each[tile].clone() for each in outputs.maps),
                    tuple(each[tile].clone() for each in outputs.global_tokens),
                    weight.clone(),
                    labels[tile].clone(),
                )
