"""What a start of training checks of its tiles: shapes, statistics, units."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmae.data.checks.sample_check import check_sample
from mmae.data.checks.stats_cover import check_levels, check_set
from mmae.data.checks.stats_mixture import mixture_band_stats
from mmae.data.sampling.shard_sets import has_split
from mmae.data.transforms.band_stats import read_band_stats

if TYPE_CHECKING:
    from mmae.config.schema import Config
    from mmae.data.sampling.training_tiles import TrainingTiles
    from mmae.run.folder import RunFolder


def chosen_band_stats(config: Config, tiles: TrainingTiles, goes_on: RunFolder | None) -> Mapping[str, Any]:
    """What a run's tiles are normalised with: `data.band_stats`; else the set's, or those of the mixture of sets.

    Args:
        goes_on: the folder of the run that this start goes on with, None for a fresh one. A mixture keeps the
            statistics that it began with.

    Raises:
        InputError: a file of statistics that cannot be read, or sets whose statistics do not fit together.
    """
    if config.data.band_stats:
        return read_band_stats(Path(config.data.band_stats))
    if len(tiles.sets) == 1:
        return tiles.sets[0].index.band_stats
    if goes_on is not None and goes_on.band_stats_file.is_file():
        return goes_on.stored_band_stats()
    return mixture_band_stats(tiles)


def check_tiles(config: Config, tiles: TrainingTiles, band_stats: Mapping[str, Any]) -> None:
    """Refuse what a model would learn wrong, or fail on, before anything is started.

    Shapes and levels of all tiles are checked by the index. A sample of tiles is read, by rank 0 alone.

    Raises:
        InputError: the first problem, with the set, the count, and what to do.
    """
    domains = config.model.domains
    for each in tiles.sets:
        check_set(each.index, domains, band_stats)
    parts = [(each, at, "train") for each, at in zip(tiles.sets, tiles.positions, strict=True)]
    parts += [(each, each.index.positions("val"), "val") for each in tiles.sets if has_split(each.index, "val")]
    for each, positions, split in parts:
        check_levels(each.index, positions, split, domains, band_stats)
    if os.environ.get("RANK", "0") != "0":
        return
    for each, positions, split in parts:
        check_sample(each, positions, split, domains, band_stats, len(tiles.sets), config.data.check_units)
