"""Arrays of tiles, whatever they were read from, compared with the band statistics and class tables of modalities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mmae.data.checks.stats_cover import OTHER_STATISTICS, check_bands
from mmae.data.checks.units import Remedy, before_packing, code_problem, thinned, unit_problem
from mmae.errors import InputError
from mmae.modalities import DATASET_BANDS, MODALITIES, Modality, S2Level, stats_entry

if TYPE_CHECKING:
    from numpy.typing import NDArray


def check_values(
    where: str,
    arrays: Mapping[str, NDArray[Any]],
    level: S2Level,
    domains: Sequence[str],
    band_stats: Mapping[str, Any],
    units: bool,
    switch: str,
    remedy: Remedy = before_packing,
    bands: Mapping[str, Sequence[int]] | None = None,
    mend: str = OTHER_STATISTICS,
    table: Mapping[str, Modality] = MODALITIES,
) -> None:
    """Compare tiles of one Sentinel-2 level with the statistics and class tables of the modalities `domains`.

    Args:
        where: names the tiles in the message.
        arrays: dataset -> (T, C, H, W) as stored.
        units: whether values are compared. False: only check that each band with data has statistics.
        switch: what turns `units` off, for the message.
        remedy: what the user can do about values in other units, for the message.
        bands: dataset -> the bands that its array holds, in its order; None: all.
        mend: what the user can do about a band without statistics, for the message.
        table: what the modalities are.

    Raises:
        InputError: the values do not fit; the message says what to do.
    """
    rows = [table[name] for name in domains]
    for entry, dataset in {stats_entry(row, level): row.dataset for row in rows if not row.categorical}.items():
        values_TCn = np.stack([thinned(tile_CHW, entry) for tile_CHW in arrays[dataset]])
        stored = None if bands is None else bands[dataset]
        if stored is not None:
            values_TCn = _in_place(values_TCn, dataset, stored)
        check_bands(where, entry, domains, band_stats, values_TCn, mend, table)
        if units and (problem := unit_problem(entry, values_TCn, band_stats, remedy, stored)):
            raise InputError(f"{where}: {entry}: {problem}; if they are right all the same, use {switch}")
    for dataset in {row.dataset for row in rows if row.categorical} if units else ():
        if problem := code_problem(dataset, arrays[dataset], remedy):
            raise InputError(f"{where}: {dataset}: {problem}; if they are right all the same, use {switch}")


def _in_place(values_TCn: NDArray[np.float64], dataset: str, stored: Sequence[int]) -> NDArray[np.float64]:
    """Each band at its place in the dataset; NaN in those that are not stored."""
    tiles, _, pixels = values_TCn.shape
    # Bands that MMEarth does not have stand behind its own.
    whole_TCn = np.full((tiles, max(DATASET_BANDS[dataset], *(band + 1 for band in stored)), pixels), np.nan)
    whole_TCn[:, list(stored)] = values_TCn
    return whole_TCn
