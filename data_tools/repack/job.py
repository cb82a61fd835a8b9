"""The input of a worker: how to pack a source, and which of its tiles make a shard."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from mmae.data.shards.index_json import DatasetInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from data_tools.repack.shard_plan import PlannedShard
    from data_tools.source.chunks import Chunks, Storage
    from data_tools.source.dataset import Source

OnError = Literal["raise", "skip"]


@dataclass(frozen=True)
class Recipe:
    """The settings that all shards of a source share; picklable.

    Attributes:
        path: the HDF5 file.
        datasets: the datasets to pack, in the order in which members are stored.
        storage: how tiles are stored, for datasets that are read without HDF5. HDF5 reads the others.
        codec: one of `codec.CODECS`.
        on_error: whether a tile that cannot be read ends the work or is left out.
        statistics: datasets of which the moments over the tiles of `train` are computed.
    """

    path: Path
    datasets: Mapping[str, DatasetInfo]
    storage: Mapping[str, Storage]
    codec: str
    on_error: OnError = "raise"
    statistics: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class ShardJob:
    """A shard to write; picklable. Nothing else is needed except the HDF5 file.

    Attributes:
        shard: its name, split and rows (R).
        path: the path of the finished shard.
        tile_ids: the tile id of each row.
        levels: uint8 (R,), index into `modalities.S2_LEVELS`.
        tile_info: the entry of each row as JSON text.
        chunks: the location of each tile for each dataset of `Recipe.storage`, by number within the shard.
    """

    shard: PlannedShard
    path: Path
    tile_ids: list[str]
    levels: NDArray[np.uint8]
    tile_info: list[str]
    chunks: Mapping[str, Chunks]


def make_job(source: Source, shard: PlannedShard, path: Path, chunks: Mapping[str, Chunks]) -> ShardJob:
    """A job for rows of a source.

    Args:
        chunks: those of all rows of the source.
    """
    rows = shard.rows
    tile_ids = [source.tile_ids[row] for row in rows.tolist()]
    return ShardJob(
        shard=shard,
        path=path,
        tile_ids=tile_ids,
        levels=source.level[rows],
        tile_info=[source.tile_info.text(tile_id) for tile_id in tile_ids],
        chunks={name: of_all.take(rows) for name, of_all in chunks.items()},
    )


def source_bytes(recipe: Recipe, job: ShardJob) -> NDArray[np.int64]:
    """Bytes of the source for each tile of a job, int64 (R,): the stored size if it is known, else the decoded size."""
    plain = sum(
        info.dtype.itemsize * math.prod(info.shape) for name, info in recipe.datasets.items() if name not in job.chunks
    )
    total = np.full(len(job.shard.rows), plain, np.int64)
    for chunks in job.chunks.values():
        total += chunks.size
    return total
