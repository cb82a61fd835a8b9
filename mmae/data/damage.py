"""What is raised where a tile's bytes are not those that were packed."""

from __future__ import annotations

from pathlib import Path

from mmae.errors import InputError
from mmae.printable import printable


class DamagedTile(InputError):  # noqa: N818  (it names what was found, not that it was raised)
    """The bytes of one member of a tile, from `offset` of its shard on, are not those that were packed."""

    def __init__(self, shard: Path, row: int, dataset: str, offset: int, what: str) -> None:
        super().__init__(shard, row, dataset, offset, what)
        self.shard = shard
        self.row = row
        self.dataset = dataset
        self.offset = offset
        self.what = what

    def __str__(self) -> str:
        return printable(
            f"{self.shard}: {self.dataset} of row {self.row} at byte {self.offset} is damaged ({self.what}): "
            f"run mmae verify {self.shard.parent}, and copy or repack the shards again"
        )
