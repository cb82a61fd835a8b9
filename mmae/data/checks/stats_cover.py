"""Tiles that cannot be normalised: their Sentinel-2 level, or a band of theirs, has no statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmae.data.transforms.shapes import check_counts, check_shapes
from mmae.data.transforms.stats_entry import band_numbers
from mmae.errors import InputError
from mmae.modalities import MODALITIES, S2_LEVELS, Modality, S2Level, entry_levels, stats_entry

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.data.sampling.shard_sets import ShardSet
    from mmae.data.shards.index import Index

TRAIN: Final = "train"
OTHER_STATISTICS: Final = (
    "set data.band_stats=FILE to a file that fits (mmae stats makes one from tiles with the band), or leave the "
    "modality out"
)


def missing_entries(domains: Sequence[str], band_stats: Mapping[str, Any], level: S2Level) -> dict[str, list[str]]:
    """Entries without any number that tiles of a level need -> the modalities (of `domains`) that need them."""
    missing: dict[str, list[str]] = {}
    for row in (MODALITIES[name] for name in domains):
        entry = stats_entry(row, level)
        if not row.categorical and band_numbers(band_stats, entry) is None:
            missing.setdefault(entry, []).append(row.name)
    return missing


def check_levels(
    index: Index, positions: NDArray[np.int64], split: str, domains: Sequence[str], band_stats: Mapping[str, Any]
) -> None:
    """Refuse tiles whose Sentinel-2 level has no statistics; it would be learned as constant.

    Args:
        positions: the tiles' positions in the index, int64, all of one split.
        split: the split's name, for the message.

    Raises:
        InputError: there are such tiles; it counts them and names the first.
    """
    level_N = index.level[positions]
    for number, level in enumerate(S2_LEVELS):
        missing = missing_entries(domains, band_stats, level)
        tiles = positions[level_N == number]
        if not missing or not len(tiles):
            continue
        entry, names = next(iter(missing.items()))
        first = bytes(index.tile_id[tiles[0]]).decode(errors="replace")
        if entry.endswith(f"_{level}"):
            which = f"{len(tiles)} of {len(positions)} {split} tiles are Sentinel-2 {level} (first {first!r}), and"
        else:
            which = f"{len(positions)} {split} tiles cannot be normalised (first {first!r}):"
        splits = TRAIN if split == TRAIN else f"{TRAIN},{split}"
        raise InputError(
            f"{index.folder}: {which} the band statistics have no entry {entry!r}, which {', '.join(names)} need: set "
            f"data.band_stats=FILE to a file that has it, such as MMEarth's band_stats file or one made by mmae stats "
            f"{index.folder} --split {splits} --out FILE"
            f"{'; or leave these tiles out with data.keys' if split == TRAIN else ''}"
        )


def check_set(index: Index, domains: Sequence[str], band_stats: Mapping[str, Any]) -> None:
    """Refuse a set whose shapes, dtypes or counts are not those of the modalities and the statistics.

    Raises:
        InputError: a dataset is missing, or does not fit.
    """
    # Here, so that arrays of users are checked without the libraries that read shards.
    from mmae.data.sampling.shard_sets import needed_datasets

    where, names = str(index.folder), needed_datasets(index, domains)
    shapes = {name: index.datasets[name].shape for name in names}
    check_shapes(where, shapes, {name: index.datasets[name].dtype for name in names}, domains)
    check_counts(where, shapes, domains, band_stats)


def check_split(each: ShardSet, split: str, domains: Sequence[str], band_stats: Mapping[str, Any]) -> None:
    """`check_set`, and `check_levels` of a split's tiles; the set may have none.

    Raises:
        InputError: the first problem, with the set and what to do.
    """
    check_set(each.index, domains, band_stats)
    check_levels(each.index, each.index.of_split(split), split, domains, band_stats)


def check_bands(
    where: str,
    entry: str,
    domains: Sequence[str],
    band_stats: Mapping[str, Any],
    values_TCn: NDArray[np.float64],
    mend: str = OTHER_STATISTICS,
    table: Mapping[str, Modality] = MODALITIES,
) -> None:
    """Refuse data in a band without statistics, or with those of a band that never changes; it would be learned as 0.

    Args:
        where: names the tiles in the message.
        entry: the statistics of the tiles' dataset and level.
        values_TCn: pixels n of each band C of tiles T, NaN where there is no data.
        mend: what the user can do about it, for the message.
        table: what the modalities are.

    Raises:
        InputError: a band that one of `domains` takes holds data that its statistics cannot be of.
    """
    numbers = band_numbers(band_stats, entry)
    unknown_C = np.full(values_TCn.shape[1], np.nan)
    mean_C, std_C = (unknown_C, unknown_C) if numbers is None else (numbers.mean_C, numbers.std_C)
    for row in (table[name] for name in domains):
        if row.categorical or entry not in entry_levels(row.dataset):
            continue
        for band, name in zip(row.bands, row.band_names, strict=True):
            values_Tn = values_TCn[:, band]
            has_data_Tn = ~np.isnan(values_Tn)
            if np.isnan(mean_C[band]):
                wrong_Tn, said = has_data_Tn, "have no number for this band"
            elif std_C[band] == 0:
                wrong_Tn = has_data_Tn & ~np.isclose(values_Tn, mean_C[band])
                said = f"say that this band is {mean_C[band]:g} everywhere (its deviation is 0)"
            else:
                continue
            if wrong_Tn.any():
                raise InputError(
                    f"{where}: {wrong_Tn.any(1).sum()} of {len(values_Tn)} tiles hold data of {row.dataset} {name} "
                    f"(modality {row.name}), but the band statistics of {entry} {said}: {mend}"
                )
