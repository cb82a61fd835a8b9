"""What an exported encoder takes and gives, as a JSON-able table: every number that a user needs to prepare inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmae.errors import InputError, did_you_mean
from mmae.modalities import MODALITIES, S2_LEVELS, Modality, S2Level
from mmae.publish.images.raw_statistics import modality_numbers
from mmae.version import __version__

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.config.schema import ModelConfig

_NORMALISED: Final = (
    "Inputs are what mmae.features takes: (stored - mean) / std a band, 0 where there is no data; class ids (the index "
    "in class_codes, their number where there is no data) for label maps. Nothing is normalised inside."
)


def input_names(config: ModelConfig, named: Sequence[str] | None) -> tuple[str, ...]:
    """The named inputs in the model's order; all of them if none is named.

    Raises:
        InputError: one is not an input of the model, or is named twice.
    """
    for name in named or ():
        if name not in config.in_domains:
            raise InputError(
                f"--modalities: {name!r} is not an input of this model{did_you_mean(name, config.in_domains)}"
            )
        if named is not None and named.count(name) > 1:
            raise InputError(f"--modalities: {name} is named twice: name each input once")
    return tuple(name for name in config.in_domains if named is None or name in named)


def input_shape(modality: Modality, image_hw: tuple[int, int]) -> tuple[int, ...]:
    """Shape of one tile of an input, without the batch: (C, H, W), or (h, w) of class ids."""
    height, width = (side // modality.stride for side in image_hw)
    return (height, width) if modality.categorical else (len(modality.bands), height, width)


def input_table(
    config: ModelConfig,
    names: Sequence[str],
    image_hw: tuple[int, int],
    band_stats: Mapping[str, Any],
    table: Mapping[str, Modality] = MODALITIES,
) -> dict[str, Any]:
    """The table: inputs in their order with bands, units and statistics (null where there are none), and the grid."""
    return {
        "mmae_version": __version__,
        "normalisation": _NORMALISED,
        "image_hw": list(image_hw),
        "patch_size": config.patch_size,
        "grid_hw": [side // config.patch_size for side in image_hw],
        "num_global_tokens": config.num_global_tokens,
        "inputs": {name: _row(table[name], image_hw, band_stats) for name in names},
    }


def _row(modality: Modality, image_hw: tuple[int, int], band_stats: Mapping[str, Any]) -> dict[str, Any]:
    shape = ["batch", *input_shape(modality, image_hw)]
    if modality.categorical:
        return {"shape": shape, "dtype": "int64", "class_codes": modality.class_codes}
    levels: Sequence[S2Level] = S2_LEVELS if modality.by_level else S2_LEVELS[:1]
    known = {level if modality.by_level else "any": _statistics(modality, level, band_stats) for level in levels}
    return {
        "shape": shape,
        "dtype": "float32",
        "bands": modality.band_names,
        "units": modality.units,
        "no_data": modality.no_data,
        "statistics_by_level": {level: numbers for level, numbers in known.items() if numbers is not None},
        "standardised_by_tile": modality.standardise,
    }


def _statistics(modality: Modality, level: S2Level, band_stats: Mapping[str, Any]) -> dict[str, Any] | None:
    numbers = modality_numbers(modality, band_stats, level)
    return None if numbers is None else {"mean": _json(numbers.mean_C), "std": _json(numbers.std_C)}


def _json(numbers_C: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(number) else float(number) for number in numbers_C]
