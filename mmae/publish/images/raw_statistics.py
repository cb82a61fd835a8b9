"""Mean and standard deviation of an exported image's bands in stored units, and the words that go with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmae.data.transforms.stats_entry import BandNumbers, band_numbers
from mmae.errors import InputError
from mmae.modalities import S2_LEVELS, Modality, S2Level, stats_entry
from mmae.publish.images.image_bands import ImageBands


@dataclass(frozen=True)
class RawStatistics:
    """What the encoder's inputs were normalised with: (stored - mean) / std.

    Attributes:
        mean: one number a channel, in stored units; 0 where a band has no statistics.
        std: the same; 1 where a band has no statistics or never changed.
        unknown: the bands without statistics: training gave the encoder 0 for them.
        level: of Sentinel-2, or None where it does not matter.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    unknown: tuple[str, ...]
    level: S2Level | None


def raw_statistics(chosen: ImageBands, band_stats: Mapping[str, Any], level: S2Level | None) -> RawStatistics:
    """The statistics of the chosen bands.

    Args:
        band_stats: as in MMEarth's `*_band_stats.json`.
        level: of Sentinel-2; None where the statistics hold one level only, or where it does not matter.

    Raises:
        InputError: there are none, a level is missing, or one is given that does not matter.
    """
    chosen_level = _level(chosen, band_stats, level)
    mean, std = [], []
    for modality, place in chosen.sources:
        numbers = modality_numbers(modality, band_stats, chosen_level or S2_LEVELS[0])
        if numbers is None:
            entry = stats_entry(modality, chosen_level or S2_LEVELS[0])
            raise InputError(f"the model has no band statistics {entry!r}: import it with --band-stats, or train anew")
        mean.append(float(numbers.mean_C[place]))
        std.append(float(numbers.std_C[place]))
    unknown = tuple(name for name, number in zip(chosen.names, mean, strict=True) if np.isnan(number))
    return RawStatistics(
        tuple(0.0 if np.isnan(number) else number for number in mean),
        tuple(number if number > 0 else 1.0 for number in std),
        unknown,
        chosen_level,
    )


def modality_numbers(modality: Modality, band_stats: Mapping[str, Any], level: S2Level) -> BandNumbers | None:
    """Mean and deviation of a modality's bands, NaN where unknown; None where nothing is known of the level.

    Raises:
        InputError: the statistics have too few bands.
    """
    entry, bands = stats_entry(modality, level), list(modality.bands)
    numbers = band_numbers(band_stats, entry)
    if numbers is None:
        return None
    if len(numbers.mean_C) <= max(bands):
        raise InputError(f"band statistics: {entry} has too few bands for {modality.name}: compute them again")
    return BandNumbers(numbers.mean_C[bands], numbers.std_C[bands])


def _level(chosen: ImageBands, band_stats: Mapping[str, Any], level: S2Level | None) -> S2Level | None:
    if not chosen.by_level:
        if level is not None:
            raise InputError(f"--level {level}: {', '.join(chosen.names)} are the same at every level; leave it out")
        return None
    if level is not None:
        return level
    first = next(modality for modality in chosen.modalities if modality.by_level)
    known = [each for each in S2_LEVELS if modality_numbers(first, band_stats, each) is not None]
    if len(known) > 1:
        raise InputError(f"the model has band statistics of {' and '.join(known)}: choose one with --level")
    return known[0] if known else S2_LEVELS[0]


def notes(chosen: ImageBands, statistics: RawStatistics) -> list[str]:
    """Sentences on what the image must hold and what its token is."""
    said = [_channels(chosen, statistics)]
    if statistics.unknown:
        said.append(f"{_list(statistics.unknown)}: no statistics; the encoder always saw 0 there, so give it 0.")
    for modality in chosen.modalities:
        if modality.standardise:
            said.append(
                f"{modality.name} is standardised tile by tile after that: subtract the mean and divide by the "
                "deviation of the tile's values between their 10th and 90th percentile. Mean and std alone are not "
                "enough."
            )
        if modality.no_data:
            codes = ", ".join(f"{code:g}" for code in modality.no_data)
            said.append(f"A {modality.name} pixel that holds {codes} has no data; set it to 0 after normalisation.")
    if len(chosen.modalities) > 1:
        names = [modality.name for modality in chosen.modalities]
        said.append(
            f"A token is the sum of the patch projections of {_list(names)}, with the position once. That sum is "
            "exact, but training never showed it: the encoder saw one token a modality. Fine-tune it; its features "
            "are not those of the multi-modal encoder."
        )
    if chosen.left_out:
        said.append(
            f"Only the kernel slices of the named bands are used. {_list(chosen.left_out)} left out: the token is "
            "that of an image in which they equal their mean everywhere."
        )
    return said


def _channels(chosen: ImageBands, statistics: RawStatistics) -> str:
    units = dict.fromkeys(modality.units for modality in chosen.modalities)
    level = f", level {statistics.level.upper()}" if statistics.level else ""
    return f"Channels: {_list(chosen.names)}, in {_list(tuple(units))}{level}. Give (stored - mean) / std."


def _list(words: Sequence[str]) -> str:
    return ", ".join(words)
