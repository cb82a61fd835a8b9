"""The number of tiles of an epoch and their size on disk: from the shards' index, or from measurements."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mmae.addresses import is_remote
from mmae.config.schema import DataConfig
from mmae.data.shards.index_json import JSON_NAME, parse_head
from mmae.disk.regular_file import read_regular
from mmae.errors import InputError
from mmae.plan.measured import TILE_BYTES

MMEARTH: Final = 1_200_000
"""Tiles of MMEarth, about."""
CODEC: Final = "small"
"""The codec that `mmae repack` uses by default."""


@dataclass(frozen=True)
class Tiles:
    """The tiles that a run reads.

    Attributes:
        count: training tiles of an epoch.
        bytes: the bytes of all shards.
        codec: the codec of the shards.
        source: a note on where these figures come from.
    """

    count: int
    bytes: int
    codec: str
    source: str


def tiles_of(data: DataConfig, said: int | None) -> Tiles:
    """The tiles from the index of local shards, if there are any.

    Args:
        said: tiles an epoch, instead of the index's.

    Raises:
        InputError: a folder has no shards, or its index is damaged.
    """
    folders = [Path(place) for place in data.locations if not is_remote(place)]
    if not folders or len(folders) != len(data.locations):
        count = said or MMEARTH
        per_tile = TILE_BYTES[CODEC]
        source = f"{per_tile / 1e3:.1f} kB a tile, measured with all 15 datasets and codec {CODEC}"
        return Tiles(count, round(count * per_tile), CODEC, source)
    weights = data.weights or (1.0,) * len(folders)
    expected, total, codec = 0.0, 0, CODEC
    for folder, weight in zip(folders, weights, strict=True):
        head = parse_head(_read(folder), folder / JSON_NAME)
        train = head.tiles().get("train", 0)
        expected += weight * data.fraction * (train if data.max_tiles is None else min(train, data.max_tiles))
        total += sum(shard.bytes for shard in head.shards)
        codec = str(head.options.get("codec", CODEC))
    return Tiles(said or max(1, round(expected)), total, codec, f"the index of {', '.join(map(str, folders))}")


def _read(folder: Path) -> bytes:
    try:
        return read_regular(folder / JSON_NAME)
    except OSError as error:
        raise InputError(
            f"data.shards={folder}: {JSON_NAME} cannot be read ({error.strerror}): "
            "name the folder that `mmae repack` wrote, or leave it out"
        ) from None
