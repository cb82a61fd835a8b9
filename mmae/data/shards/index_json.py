"""`index.json`: what holds for a whole shard set, and the hash of the arrays that belong to it."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import PurePath
from typing import Any, Final

import numpy as np
import xxhash

from mmae.data.shards.index_labels import LabelInfo, parse_labels, stored_labels
from mmae.disk.json_text import parse_json
from mmae.errors import InputError

FORMAT: Final = "mmae-shards"
VERSION: Final = 2
JSON_NAME: Final = "index.json"
NPZ_NAME: Final = "index.npz"

_DIGEST: Final = "digest"
"""The key whose value is the hash of the rest of the file."""

_MOST_AXES: Final = 8
_MOST_BYTES: Final = 2**31 - 1
"""Most bytes of one dataset's tile: Blosc2 cannot compress more in one chunk."""
_SHARD_NAME: Final = re.compile(r"\w+-\d{6,}\.tar", re.ASCII)
_HASH: Final = re.compile(r"[0-9a-f]*")


@dataclass(frozen=True)
class DatasetInfo:
    """A dataset's stored dtype and the shape of one tile, without the tile axis."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class ShardInfo:
    """One tar file: its name, split, tiles, size in bytes, and xxh3-128 of its content in hexadecimal."""

    name: str
    split: str
    tiles: int
    bytes: int
    hash: str


@dataclass(frozen=True)
class SourceInfo:
    """The HDF5 file that was packed: its name without folders, bytes, rows, and a fingerprint."""

    name: str
    bytes: int
    rows: int
    fingerprint: str


@dataclass(frozen=True)
class Loss:
    """A tile of the source that could not be packed: its row and key, the dataset, and what went wrong."""

    row: int
    tile_id: str
    dataset: str
    what: str


@dataclass(frozen=True)
class ArraysInfo:
    """`index.npz`: its size in bytes and xxh3-128 in hexadecimal."""

    bytes: int
    hash: str


@dataclass(frozen=True)
class Head:
    """The content of `index.json`; see `index.Index`."""

    arrays: ArraysInfo
    datasets: Mapping[str, DatasetInfo]
    shards: tuple[ShardInfo, ...]
    splits: tuple[str, ...]
    options: Mapping[str, Any]
    source: SourceInfo
    band_stats: Mapping[str, Any]
    losses: tuple[Loss, ...]
    labels: Mapping[str, LabelInfo] = field(default_factory=dict)

    def dump(self) -> bytes:
        """The file's bytes. `band_stats` and `options` must be standard JSON (no NaN)."""
        head = {
            "format": FORMAT,
            "version": VERSION,
            "tiles": self.tiles(),
            "datasets": [[name, info.dtype.str, list(info.shape)] for name, info in self.datasets.items()],
            "splits": list(self.splits),
            "shards": [asdict(shard) for shard in self.shards],
            "options": dict(self.options),
            "source": asdict(self.source),
            "band_stats": dict(self.band_stats),
            "losses": [asdict(loss) for loss in self.losses],
            "arrays": asdict(self.arrays),
        }
        if self.labels:
            head["labels"] = stored_labels(self.labels)
        return _text(head | {_DIGEST: xxhash.xxh3_128_hexdigest(_text(head))})

    def tiles(self) -> dict[str, int]:
        """Tiles of each split."""
        counts: Counter[str] = Counter()
        for shard in self.shards:
            counts[shard.split] += shard.tiles
        return {split: counts[split] for split in self.splits}


def _text(head: Mapping[str, Any]) -> bytes:
    return (json.dumps(head, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def parse_head(text: bytes, where: PurePath | str) -> Head:
    """The head that `dump` wrote.

    Args:
        where: names the file in messages.

    Raises:
        InputError: not a head of this format, or a damaged one.
    """
    content = _parse(text, where)
    try:
        head = Head(
            arrays=ArraysInfo(**content["arrays"]),
            datasets={name: DatasetInfo(np.dtype(dtype), tuple(shape)) for name, dtype, shape in content["datasets"]},
            shards=tuple(ShardInfo(**shard) for shard in content["shards"]),
            splits=tuple(content["splits"]),
            options=content["options"],
            source=SourceInfo(**content["source"]),
            band_stats=content["band_stats"],
            losses=tuple(Loss(**loss) for loss in content["losses"]),
            labels=parse_labels(content.get("labels", ()), [name for name, *_ in content["datasets"]]),
        )
        _check(head, content["tiles"])
        digest = content.pop(_DIGEST)
        # The second comparison also finds changes outside the content: white space, a missing end.
        if xxhash.xxh3_128_hexdigest(_text(content)) != digest or _text(content | {_DIGEST: digest}) != text:
            raise ValueError("its content has changed since it was written")
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{where}: the index is damaged ({str(error) or type(error).__name__}): repack, or copy the folder again"
        ) from error
    return head


def _parse(text: bytes, where: PurePath | str) -> dict[str, Any]:
    try:
        content = parse_json(text)
    except ValueError:
        raise InputError(f"{where}: not JSON: repack, or copy the folder again") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{where}: not an index of mmae shards: give the folder that `mmae repack SRC OUT` wrote")
    version = content.get("version")
    if not isinstance(version, int) or version < 1:
        raise InputError(f"{where}: unsupported index format {version!r}: run mmae repack again")
    if version < VERSION:
        raise InputError(
            f"{where}: written by an older mmae (format {version}, this one reads {VERSION}): repack into a new folder"
        )
    if version > VERSION:
        raise InputError(
            f"{where}: written by a newer mmae (format {version}, this one reads {VERSION}): upgrade mmae, or repack"
        )
    return content


def _check(head: Head, tiles: Any) -> None:
    """Raise ValueError or TypeError for values that are unsafe to use: names become paths, sizes become buffers."""
    if not all(_SHARD_NAME.fullmatch(shard.name) for shard in head.shards):
        raise ValueError("a shard's name is not <split>-<number>.tar")
    if len({shard.name for shard in head.shards}) != len(head.shards):
        raise ValueError("two shards have one name")
    if not all(shard.split in head.splits for shard in head.shards):
        raise ValueError("a shard belongs to an unknown split")
    if not all(
        info.dtype.kind in "iufb" and all(type(length) is int and length >= 0 for length in info.shape)
        for info in head.datasets.values()
    ):
        raise ValueError("a dataset does not hold numbers")
    for name, info in head.datasets.items():
        if len(info.shape) > _MOST_AXES or math.prod(info.shape) * info.dtype.itemsize > _MOST_BYTES:
            raise ValueError(f"a tile of {name} cannot be as large as {'x'.join(map(str, info.shape))}")
    if not all(_HASH.fullmatch(each) for each in [head.arrays.hash, *(shard.hash for shard in head.shards)]):
        raise ValueError("a hash is not hexadecimal")
    counts = [head.arrays.bytes, *(value for shard in head.shards for value in (shard.tiles, shard.bytes))]
    if not all(type(count) is int and count >= 0 for count in counts):
        raise ValueError("a size is not a number of bytes")
    if tiles != head.tiles():
        raise ValueError("the numbers of tiles of its splits do not agree with its shards")
    if not (isinstance(head.options, dict) and isinstance(head.band_stats, dict)):
        raise TypeError("its options or statistics are not objects")
