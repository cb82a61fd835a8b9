"""Checks of the tiles at the start of a training: shapes, statistics, units."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmae.config.score_names import VAL, of_weights
from mmae.data.checks.sample_check import check_sample
from mmae.data.checks.stats_cover import check_levels, check_set
from mmae.data.checks.stats_mixture import mixture_band_stats
from mmae.data.sampling.shard_sets import has_split
from mmae.data.transforms.band_stats import read_band_stats
from mmae.errors import InputError

if TYPE_CHECKING:
    from mmae.config.schema import Config
    from mmae.data.sampling.training_tiles import TrainingTiles
    from mmae.run.folder import RunFolder


def chosen_band_stats(config: Config, tiles: TrainingTiles, goes_on: RunFolder | None) -> Mapping[str, Any]:
    """The band statistics that normalise a run's tiles: `data.band_stats`, or else those of the set or the mixture.

    Args:
        goes_on: the folder of the run that this start resumes; None for a new run. A mixture keeps the statistics of
            its first start.

    Raises:
        InputError: a file of statistics cannot be read, or the statistics of the sets do not fit together.
    """
    if config.data.band_stats:
        return read_band_stats(Path(config.data.band_stats))
    if len(tiles.sets) == 1:
        return tiles.sets[0].index.band_stats
    if goes_on is not None and goes_on.band_stats_file.is_file():
        return goes_on.stored_band_stats()
    return mixture_band_stats(tiles, config.model.domains)


def check_tiles(config: Config, tiles: TrainingTiles, band_stats: Mapping[str, Any]) -> None:
    """Refuse tiles on which a model would learn something wrong or fail, before anything is started.

    The index is enough to check shapes and levels of all tiles. Rank 0 also reads a sample of tiles.

    Raises:
        InputError: the first problem, with the set, the count, and what to do.
    """
    domains, best = config.model.domains, config.checkpoint.keep_best
    if (
        best is not None
        and of_weights(best).startswith(VAL)
        and not any(has_split(each.index, "val") for each in tiles.sets)
    ):
        raise InputError(
            f"checkpoint.keep_best={best}: no shard set has a tile in a split val: repack with --val-fraction, or "
            "leave the key out"
        )
    for each in tiles.sets:
        check_set(each.index, domains, band_stats)
    parts = [(each, at, "train") for each, at in zip(tiles.sets, tiles.positions, strict=True)]
    parts += [(each, each.index.of_split("val"), "val") for each in tiles.sets]
    for each, positions, split in parts:
        check_levels(each.index, positions, split, domains, band_stats)
    if os.environ.get("RANK", "0") != "0":
        return
    for each, positions, split in parts:
        check_sample(each, positions, split, domains, band_stats, len(tiles.sets), config.data.check_units)
