"""`mmae.ShardDataset`: the tiles of a shard set as a plain PyTorch dataset.

    tiles = mmae.ShardDataset("shards", "train", ["sentinel2", "aster"])
    loader = torch.utils.data.DataLoader(tiles, batch_size=64, shuffle=True, num_workers=4)
    batch = next(iter(loader))  # batch["sentinel2"]: (64, 13, 64, 64) uint16

Training reads in another way (`loader`), which is faster and resumes. Shards can also be read with WebDataset alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from mmae.data.remote.open_shards import open_shards
from mmae.data.shards.reader import ShardReader
from mmae.errors import InputError
from mmae.modalities import S2_LEVELS


class ShardDataset(Dataset[dict[str, Any]]):
    """The tiles of one split, by number, in stored order.

    A tile is a dictionary: each dataset as a tensor in the file's own dtype and numbers (no-data values included;
    arrays that are constant over a tile, which shards do not store, are filled in), and `tile_id`, `row` (of the
    source), `level` ("l1c" or "l2a"), `lat` and `lon` (degrees, NaN where unknown), `date` (yyyymmdd, 0 where unknown)
    and `biome` (255 where unknown). Where the set has labels of `mmae repack --labels`, `labels` is a dictionary: of
    each the id of a class (`index.labels[name].info.classes` names it, -1 where unknown) or some float64 numbers (NaN
    where unknown). It may be used in any number of worker processes, forked or spawned: each opens the
    shards for itself.

    Args:
        shards: a folder that `mmae repack` wrote, or its address.
        split: the tiles of this split.
        datasets: names of MMEarth's datasets; None: all that the shards hold.
        cache_dir: the folder that shards of an address are fetched to.
        cache_gb: the most disk space that they may take there.

    Raises:
        InputError: no finished shards, no such split or dataset; on reading a tile: it is damaged.
    """

    def __init__(
        self,
        shards: str | Path,
        split: str = "train",
        datasets: Sequence[str] | None = None,
        cache_dir: str | None = None,
        cache_gb: float = 100.0,
    ) -> None:
        self.index, store = open_shards(str(shards), cache_dir, cache_gb)
        if split not in self.index.splits:
            raise InputError(f"{shards}: no split {split!r} (splits: {', '.join(self.index.splits)})")
        self.positions = self.index.of_split(split)
        self.datasets = tuple(self.index.datasets if datasets is None else datasets)
        self._reader = ShardReader(self.index, self.datasets, store=store)

    def __len__(self) -> int:
        return len(self.positions)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> dict[str, Any]:
        """The tile with this number, from 0; negative ones count from the end.

        Raises:
            IndexError: there are fewer tiles.
            InputError: the tile is damaged, or its shard is missing.
        """
        if not -len(self) <= number < len(self):
            raise IndexError(f"tile {number} of {len(self)}")
        position, index = int(self.positions[number]), self.index
        tile = self._reader.read(position)
        return {
            **{name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in tile.arrays.items()},
            "tile_id": bytes(index.tile_id[position]).decode(errors="replace"),
            "row": tile.row,
            "level": S2_LEVELS[tile.level],
            "lat": float(index.lat[position]),
            "lon": float(index.lon[position]),
            "date": int(index.date[position]),
            "biome": int(index.biome[position]),
            **({"labels": labels} if (labels := self._labels(position)) else {}),
        }

    def _labels(self, position: int) -> dict[str, torch.Tensor]:
        return {name: torch.from_numpy(np.array(each.value_N[position])) for name, each in self.index.labels.items()}
