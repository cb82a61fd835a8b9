"""Band statistics of a mixture of shard sets, from those of its sets: no tile is read again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mmae.data.transforms.stats_entry import BandNumbers, band_numbers
from mmae.errors import InputError
from mmae.modalities import MODALITIES, entry_levels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.data.sampling.training_tiles import TrainingTiles

_EXTREMES = (("min", min), ("max", max))


def mixture_band_stats(tiles: TrainingTiles, domains: Sequence[str]) -> Mapping[str, Any]:
    """The statistics of all tiles that an epoch reads, in the layout of MMEarth's `band_stats`.

    Means and variances of the sets are pooled, each set counting as many times as an epoch reads tiles of the entry's
    level from it. An entry on which all sets agree stays as it is. Of one that no modality of `domains` uses, the first
    set's is taken.

    Args:
        domains: names of the modalities that the run uses.

    Raises:
        InputError: an entry is not a list of numbers a statistic, or has another number of bands in another set.
    """
    stats = [each.index.band_stats for each in tiles.sets]
    joined = {entry: table for each in reversed(stats) for entry, table in each.items()}
    for entry, levels in _entries(domains).items():
        given = [(each, _weight(tiles, number, levels)) for number, each in enumerate(stats) if entry in each]
        if any(each[entry] != joined[entry] for each, _ in given):
            joined[entry] = _pooled(entry, given)
    return joined


def _entries(domains: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Entry that modalities use -> the indices of the levels that its tiles have."""
    datasets = dict.fromkeys(MODALITIES[name].dataset for name in domains)
    return {entry: levels for dataset in datasets for entry, levels in entry_levels(dataset).items()}


def _weight(tiles: TrainingTiles, number: int, levels: tuple[int, ...]) -> float:
    """The number of tiles of these levels that an epoch reads from a set."""
    level_N = tiles.sets[number].index.level[tiles.positions[number]]
    slots = sum(part.count for part in tiles.mixture.parts if part.set == number)
    return slots * int(np.isin(level_N, levels).sum()) / max(1, len(level_N))


def _pooled(entry: str, given: Sequence[tuple[Mapping[str, Any], float]]) -> dict[str, list[float | None]]:
    read = [(band_numbers(stats, entry), stats[entry], weight) for stats, weight in given]
    seen = [(numbers, table, weight) for numbers, table, weight in read if numbers is not None]
    # A set without a tile of the level may bring statistics of it: they count where no other set has any.
    seen = [each for each in seen if each[2] > 0] or [(numbers, table, 1.0) for numbers, table, _ in seen]
    if not seen:
        return dict(given[0][0][entry])
    bands = {len(numbers.mean_C) for numbers, _, _ in seen}
    if len(bands) > 1:
        raise InputError(
            f"band statistics: the sets of data.shards have {' and '.join(map(str, sorted(bands)))} numbers of "
            f"{entry}: repack one of them, or set data.band_stats=FILE"
        )
    mean_C, std_C = _pool([numbers for numbers, _, _ in seen], np.array([weight for _, _, weight in seen]))
    # What MMEarth writes for a band that a level does not have stays as it is.
    absent = {band: value for band, value in enumerate(seen[0][1]["mean"]) if value == 0 and np.isnan(mean_C[band])}
    columns = {"mean": mean_C.tolist(), "std": std_C.tolist()}
    table = {
        kind: [absent.get(band, None if np.isnan(value) else value) for band, value in enumerate(column)]
        for kind, column in columns.items()
    }
    return table | _extremes([each for _, each, _ in seen], bands.pop())


def _pool(sets: Sequence[BandNumbers], weight_S: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[Any]]:
    mean_SC, std_SC = (np.stack([getattr(each, field) for each in sets]) for field in ("mean_C", "std_C"))
    weight_SC = np.where(np.isnan(mean_SC), 0, weight_S[:, None])
    total_C = weight_SC.sum(0)
    share_SC = np.divide(weight_SC, total_C, out=np.zeros_like(weight_SC), where=total_C > 0)
    mean_C = (share_SC * np.nan_to_num(mean_SC)).sum(0)
    variance_C = (share_SC * (np.nan_to_num(std_SC) ** 2 + (np.nan_to_num(mean_SC) - mean_C) ** 2)).sum(0)
    return np.where(total_C > 0, mean_C, np.nan), np.where(total_C > 0, np.sqrt(variance_C), np.nan)


def _extremes(tables: Sequence[Mapping[str, Any]], bands: int) -> dict[str, list[float | None]]:
    found: dict[str, list[float | None]] = {}
    for kind, of in _EXTREMES:
        listed = [table[kind] for table in tables if isinstance(table.get(kind), list) and len(table[kind]) == bands]
        if len(listed) == len(tables):
            columns = ([value for value in column if value is not None] for column in zip(*listed, strict=True))
            found[kind] = [of(column) if column else None for column in columns]
    return found
