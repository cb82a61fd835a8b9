"""The band statistics that a repack computes, and how they are merged with those of the source."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from data_tools.stats.moments import CONTINUOUS, Moments
from mmae.errors import InputError, did_you_mean
from mmae.modalities import ABSENT_BANDS, BY_LEVEL, entry_levels

if TYPE_CHECKING:
    from data_tools.repack.shard_record import ShardRecord
    from data_tools.source.dataset import Source

MODES: Final = ("auto", "source", "compute")


def entries_to_compute(source: Source, mode: str) -> dict[str, tuple[str, ...]]:
    """Continuous dataset -> the band_stats entries to compute.

    Args:
        mode: `auto` computes entries that the source lacks, or in which a band has no number; `source` none;
            `compute` all.

    Raises:
        InputError: an unknown mode; or `source`, and the source lacks Sentinel-2.
    """
    if mode not in MODES:
        raise InputError(f"--stats {mode}: no such mode{did_you_mean(mode, MODES)}")
    wanted: dict[str, tuple[str, ...]] = {}
    for name in CONTINUOUS:
        if name in source.datasets and source.datasets[name].shape:
            bands = source.datasets[name].shape[0]
            lacking = [
                key
                for key in entry_levels(name)
                if mode == "compute" or not _usable(source.band_stats.get(key), bands, key)
            ]
            if lacking:
                wanted[name] = tuple(lacking)
    if mode == "source":
        for name in BY_LEVEL & wanted.keys():
            raise InputError(f"{source.path}: its band_stats file lacks {wanted[name][0]}: leave --stats source out")
        return {}
    return wanted


def _usable(entry: object, bands: int, key: str) -> bool:
    absent = ABSENT_BANDS.get(key, ())
    return _is_table(entry, bands) and all(_has_numbers(entry, band) for band in range(bands) if band not in absent)


def _is_table(entry: object, bands: int) -> TypeGuard[Mapping[str, list[Any]]]:
    return isinstance(entry, dict) and all(
        isinstance(entry.get(kind), list) and len(entry[kind]) == bands for kind in ("mean", "std")
    )


def _has_numbers(entry: Mapping[str, list[Any]], band: int) -> bool:
    return _finite(entry["mean"][band]) and _finite(entry["std"][band])


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def joined(
    band_stats: Mapping[str, Any], wanted: Mapping[str, tuple[str, ...]], records: Iterable[ShardRecord], mode: str
) -> dict[str, Any]:
    """The source's statistics, with the wanted entries computed from the records of all shards, in their order.

    Args:
        mode: with `auto`, bands for which the source has numbers keep them.
    """
    moments = Moments()
    for record in records:
        moments.merge(Moments.from_arrays(record.moments))
    computed = moments.band_stats()
    stats = dict(band_stats)
    for key in (key for keys in wanted.values() for key in keys):
        given = _some_numbers(stats.pop(key, None)) if mode == "auto" else None
        if key in computed:
            stats[key] = computed[key] if given is None else _filled(given, computed[key])
        elif given is not None:
            stats[key] = given
    return stats


def _some_numbers(entry: object) -> Mapping[str, list[Any]] | None:
    """An entry with numbers of a band at least."""
    bands = len(entry["mean"]) if isinstance(entry, dict) and isinstance(entry.get("mean"), list) else 0
    return entry if _is_table(entry, bands) and any(_has_numbers(entry, band) for band in range(bands)) else None


def _filled(given: Mapping[str, list[Any]], computed: Mapping[str, list[float | None]]) -> dict[str, list[Any]]:
    """The given numbers of an entry, with computed numbers for the bands without any."""
    bands = len(computed["mean"])
    if len(given["mean"]) != bands:
        return dict(computed)
    kinds = [kind for kind in computed if isinstance(given.get(kind), list) and len(given[kind]) == bands]
    return {
        kind: [given[kind][band] if _has_numbers(given, band) else computed[kind][band] for band in range(bands)]
        for kind in kinds
    }
