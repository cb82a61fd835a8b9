"""Which band statistics have to be computed while packing, and how they join those of the source."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from data_tools.moments import BY_LEVEL, CONTINUOUS, Moments
from mmae.errors import InputError, did_you_mean
from mmae.modalities import S2_LEVELS

if TYPE_CHECKING:
    from data_tools.hdf5 import Source
    from data_tools.records import ShardRecord

MODES: Final = ("auto", "source", "compute")


def entries_to_compute(source: Source, mode: str) -> dict[str, tuple[str, ...]]:
    """Continuous dataset -> those of its band_stats entries that are to be computed.

    Args:
        mode: `auto` computes entries that the source lacks, or that hold no numbers; `source` none; `compute` all.

    Raises:
        InputError: an unknown mode; or `source`, and the source lacks Sentinel-2.
    """
    if mode not in MODES:
        raise InputError(f"--stats {mode}: no such mode{did_you_mean(mode, MODES)}")
    wanted: dict[str, tuple[str, ...]] = {}
    for name in CONTINUOUS:
        if name in source.datasets:
            bands = source.datasets[name].shape[0] if source.datasets[name].shape else 0
            entries = [f"{name}_{level}" for level in S2_LEVELS] if name in BY_LEVEL else [name]
            lacking = [key for key in entries if mode == "compute" or not _usable(source.band_stats.get(key), bands)]
            if lacking:
                wanted[name] = tuple(lacking)
    if mode == "source":
        for name in BY_LEVEL & wanted.keys():
            raise InputError(f"{source.path}: its band_stats file lacks {wanted[name][0]}: leave --stats source out")
        return {}
    return wanted


def _usable(entry: object, bands: int) -> bool:
    if not isinstance(entry, dict):
        return False
    lists = [entry.get(kind) for kind in ("mean", "std")]
    return all(isinstance(values, list) and len(values) == bands and all(map(_finite, values)) for values in lists)


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def joined(
    band_stats: Mapping[str, Any], wanted: Mapping[str, tuple[str, ...]], records: Iterable[ShardRecord]
) -> dict[str, Any]:
    """The source's statistics, with the wanted entries from what was gathered shard by shard, in that order."""
    moments = Moments()
    for record in records:
        moments.merge(Moments.from_arrays(record.moments))
    computed = moments.band_stats()
    return {**band_stats, **{key: computed[key] for keys in wanted.values() for key in keys if key in computed}}
