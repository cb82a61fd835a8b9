"""A frozen encoder's features of a benchmark's tiles: vectors that are kept on disk, and maps for heads of pixels."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor

from mmae.errors import InputError
from mmae.evaluate.frozen.one_thread import one_thread
from mmae.evaluate.frozen.token_vectors import encoder_vectors
from mmae.model.heads.block_outputs import BlockOutputs, block_outputs

if TYPE_CHECKING:
    from mmae.evaluate.benchmark.encoding.tile_inputs import TileInputs
    from mmae.evaluate.benchmark.tasks.benchmark_task import BenchmarkTask, Tiles
    from mmae.evaluate.frozen.feature_store import FeatureStore
    from mmae.evaluate.frozen.token_vectors import Pooling

_CHUNK: Final = 256
"""Tiles whose vectors are stored together."""
_HAS_DATA: Final = "has data"


@dataclass
class Meter:
    """How many tiles were encoded, and in how many seconds; what came from disk does not count."""

    tiles: int = 0
    seconds: float = 0.0

    @property
    def speed(self) -> float | None:
        """Tiles a second."""
        return self.tiles / self.seconds if self.seconds > 0 else None


@dataclass(frozen=True, eq=False)
class Vectors:
    """Features of the tiles of one split.

    Attributes:
        by_choice: (block, pooling) -> float32 (N, D), of the tiles that hold data in some input.
        labels: as `Tiles.labels`, of the same tiles.
        empty: tiles that are left out, because they hold no data in any input.
    """

    by_choice: dict[tuple[int, str], Tensor]
    labels: Tensor
    empty: int = 0

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class TileFeatures:
    """The features of one task's tiles.

    Attributes:
        windows: that are encoded at once.
    """

    task: BenchmarkTask
    inputs: TileInputs
    windows: int
    meter: Meter = field(default_factory=Meter)

    @property
    def batch(self) -> int:
        """Tiles that are encoded at once."""
        return max(1, self.windows // self.inputs.grid.windows)

    def vectors(
        self, ids: Sequence[str], store: FeatureStore, blocks: Sequence[int], poolings: Sequence[Pooling]
    ) -> Vectors:
        """One vector a tile, for each block and pooling: the mean, or for `max` the maximum, of its windows' vectors.

        Tiles without data in any input are left out.

        Raises:
            InputError: as the task's reader, or a stored file is damaged.
        """
        found = [self.chunk(chunk, store, blocks, poolings) for chunk in self.chunks(ids)]
        choices = [(block, str(pooling)) for block in blocks for pooling in poolings]
        has_data_N = np.concatenate([part[_HAS_DATA] for part in found])

        def of_tiles_with_data(key: str) -> Tensor:
            return torch.from_numpy(np.concatenate([part[key] for part in found])[has_data_N])

        by_choice = {choice: of_tiles_with_data(f"{choice[0]}-{choice[1]}") for choice in choices}
        return Vectors(by_choice, of_tiles_with_data("labels"), int((~has_data_N).sum()))

    def maps(self, ids: Sequence[str], blocks: Sequence[int]) -> Iterator[tuple[BlockOutputs, Tensor]]:
        """Token maps of whole tiles, batch after batch, on the CPU, and the labels of their pixels.

        The weights of maps are 0 all over a tile that holds no data in any input.

        Raises:
            InputError: as the task's reader; or a map is not finite.
        """
        for start in range(0, len(ids), self.batch):
            tiles = self.task.read(ids[start : start + self.batch])
            yield self._maps(tiles, blocks), torch.from_numpy(np.ascontiguousarray(tiles.labels))

    @staticmethod
    def chunks(ids: Sequence[str]) -> list[tuple[str, ...]]:
        """The tiles that are stored together."""
        return [tuple(ids[start : start + _CHUNK]) for start in range(0, len(ids), _CHUNK)]

    def chunk_name(self, ids: Sequence[str]) -> str:
        """What is stored of a chunk is called so."""
        return f"vectors-{self.task.fingerprint(ids)}"

    def chunk(
        self, ids: Sequence[str], store: FeatureStore, blocks: Sequence[int], poolings: Sequence[Pooling]
    ) -> dict[str, Any]:
        """Vectors and labels of a chunk, from the store, or computed and stored.

        Raises:
            InputError: as the task's reader; a stored file is damaged, or none can be written.
        """
        name = self.chunk_name(ids)
        if store.has(name):
            return store.load(name)
        parts = []
        with one_thread(next(self.inputs.encoder.model.parameters()).device.type):
            for start in range(0, len(ids), self.batch):
                tiles = self.task.read(ids[start : start + self.batch])
                parts.append({**self._vectors(tiles, blocks, poolings), "labels": tiles.labels})
        arrays = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        store.save(name, arrays)
        return arrays

    def _vectors(self, tiles: Tiles, blocks: Sequence[int], poolings: Sequence[Pooling]) -> dict[str, Any]:
        begun = time.perf_counter()
        given = self.inputs(tiles.arrays)
        vectors = encoder_vectors(self.inputs.encoder, given, blocks, poolings)
        count = self.inputs.grid.windows
        valid_Sn = torch.cat([valid.flatten(1) for valid in given.token_valid.values()], dim=1)
        found = {_HAS_DATA: valid_Sn.any(1).view(-1, count).any(1).cpu().numpy()}
        for (block, pooling), vector_SD in vectors.items():
            windows_BWD = vector_SD.view(-1, count, vector_SD.shape[-1])
            found[f"{block}-{pooling}"] = _over_windows(windows_BWD, pooling).float().cpu().numpy()
        self._count(tiles, begun)
        return found

    def _maps(self, tiles: Tiles, blocks: Sequence[int]) -> BlockOutputs:
        begun = time.perf_counter()
        given, grid = self.inputs(tiles.arrays), self.inputs.grid
        with torch.no_grad():
            found = block_outputs(self.inputs.encoder.model, given.values, given.visible(), blocks)
        maps = tuple(grid.joined(each).float().cpu() for each in found.maps)
        for each in maps:
            if not bool(torch.isfinite(each).all()):
                raise InputError(f"{self.task.info.name}: features are not finite: the weights have diverged")
        global_tokens = tuple(
            each.view(-1, grid.windows, *each.shape[1:]).mean(1).float().cpu() for each in found.global_tokens
        )
        weight = None if found.weight_Bhw is None else grid.joined(found.weight_Bhw[:, None].float())[:, 0].cpu()
        self._count(tiles, begun)
        return BlockOutputs(maps, global_tokens, weight)

    def _count(self, tiles: Tiles, begun: float) -> None:
        self.meter.tiles += len(tiles.labels)
        self.meter.seconds += time.perf_counter() - begun


def _over_windows(windows_BWD: Tensor, pooling: str) -> Tensor:
    """(B, D); windows without data are NaN and do not count."""
    if pooling == "max":
        highest_BD = windows_BWD.nan_to_num(nan=-torch.inf).amax(1)
        return torch.where(torch.isinf(highest_BD), torch.nan, highest_BD)
    return windows_BWD.nanmean(1)
