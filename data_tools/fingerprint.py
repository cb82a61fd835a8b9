"""The identity of a source: which data set a folder of shards was packed from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import xxhash

from mmae.data.index import DatasetInfo
from mmae.regular_file import open_regular, read_regular

_SAMPLES: Final = 32
_SAMPLE_BYTES: Final = 1 << 16


def fingerprint(path: Path, known: Mapping[str, DatasetInfo], tile_ids: Sequence[str], beside: Iterable[Path]) -> str:
    """Identity of the source. Hashing all of a file of hundreds of gigabytes takes too long: samples stand for it."""
    hasher = xxhash.xxh3_128()
    described = {name: [info.dtype.str, list(info.shape)] for name, info in known.items()}
    size = path.stat().st_size
    hasher.update(json.dumps([size, described, list(tile_ids)], sort_keys=True).encode())
    for json_path in beside:
        hasher.update(read_regular(json_path))
    with open_regular(path) as file:
        for sample in range(_SAMPLES):
            file.seek(max(0, size - _SAMPLE_BYTES) * sample // (_SAMPLES - 1))
            hasher.update(file.read(_SAMPLE_BYTES))
    return hasher.hexdigest()
