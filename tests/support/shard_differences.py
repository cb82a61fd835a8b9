"""What a check of shards finds, and the damage it is to find."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py

from data_tools.verify.check_set import verify
from mmae.data.shards.index import Index

Make = Callable[..., Any]


def flip(folder: Path, index: Index, position: int, place: int) -> None:
    path = folder / index.shards[int(index.shard[position])].name
    damaged = bytearray(path.read_bytes())
    damaged[int(index.offset[position]) + place] ^= 1
    path.write_bytes(damaged)


def damage_source(path: Path, row: int, dataset: str) -> None:
    with h5py.File(path) as file:
        place = file[dataset].id.get_chunk_info(row).byte_offset
    content = bytearray(path.read_bytes())
    content[place + 10 : place + 40] = bytes(30)
    path.write_bytes(content)


def found(folder: Path, against: Path | None = None) -> list[str]:
    return [str(difference) for difference in verify(folder, against).differences]
