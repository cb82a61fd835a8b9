"""MMEarth's stored arrays as a saved model's inputs: validity, class ids and the model's own normalisation.

saved = read_model_config("model")
inputs = raw_inputs(saved, {"sentinel2": array_BCHW}, ["l2a"])
maps, global_tokens = features(load_model("model"), inputs.values, inputs.token_valid)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import torch

from mmae.config.schema import DataConfig
from mmae.data.checks.sample_check import check_values
from mmae.data.checks.stats_cover import missing_entries
from mmae.data.transforms.preprocess import Preprocess
from mmae.data.transforms.shapes import check_counts, check_shapes
from mmae.errors import InputError, did_you_mean
from mmae.modalities import MODALITIES, S2_LEVELS, S2Level
from mmae.terminal.plurals import counted
from mmae.types import Batch, Inputs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmae.model.saved.saved_config import SavedModel

_WHERE: Final = "the tiles"


def raw_inputs(
    saved: SavedModel,
    arrays: Mapping[str, NDArray[np.generic]],
    levels: Sequence[S2Level],
    device: torch.device | str = "cpu",
    check_units: bool = True,
) -> Inputs:
    """Whole tiles, neither cropped nor flipped, as the model was trained to see them.

    Args:
        saved: what the model folder says (`read_model_config`); its band statistics normalise.
        arrays: MMEarth dataset -> (B, C, H, W) in the file's own dtype and bands. Every input modality of the model
            with its dataset here is computed. H and W are multiples of the patch size.
        levels: the Sentinel-2 level of each tile.
        check_units: compare the values with the statistics. False: the caller knows that they are right.

    Returns:
        Values, validity, and which tokens hold data: `token_valid` is the mask for `features`.

    Raises:
        InputError: no dataset of the model; sizes or bands that do not fit; a level or band with data for which the
            model folder has no statistics; or values that cannot be in the units of the statistics.
    """
    config = saved.config
    names = tuple(name for name in config.in_domains if MODALITIES[name].dataset in arrays)
    datasets = sorted({MODALITIES[name].dataset for name in config.in_domains})
    for dataset in arrays:
        if dataset not in datasets:
            raise InputError(f"no input of this model comes from dataset {dataset!r}{did_you_mean(dataset, datasets)}")
    if not names:
        raise InputError(f"no dataset is given; this model's inputs come from {', '.join(datasets)}")
    batch, size = _batch(arrays, levels)
    patch = config.patch_size
    if size[0] % patch or size[1] % patch:
        raise InputError(
            f"tiles of {size[0]}x{size[1]} pixels do not divide into patches of {patch}x{patch}: crop them"
        )
    model = replace(config, in_domains=names, out_domains=names, input_size=size, extra_norm_pix_loss=False)
    device = torch.device(device)
    preprocess = Preprocess(DataConfig(), model, saved.band_stats, device)
    _check_arrays(saved, arrays, levels, names, check_units)
    return preprocess(batch.to(device), train=False)


def _check_arrays(
    saved: SavedModel,
    arrays: Mapping[str, NDArray[np.generic]],
    levels: Sequence[S2Level],
    names: Sequence[str],
    check_units: bool,
) -> None:
    """Raise InputError if the model's statistics or class tables do not fit these tiles."""
    shapes = {name: array.shape[1:] for name, array in arrays.items()}
    check_shapes(_WHERE, shapes, {name: array.dtype for name, array in arrays.items()}, names)
    check_counts(_WHERE, shapes, names, saved.band_stats)
    for level in dict.fromkeys(levels):
        chosen_B = [tile for tile, of in enumerate(levels) if of == level]
        for entry, needed_by in missing_entries(names, saved.band_stats, level).items():
            raise InputError(
                f"{len(chosen_B)} of {len(levels)} tiles are Sentinel-2 {level}, and the band statistics of the model "
                f"have no entry {entry!r}, which {', '.join(needed_by)} need: give tiles of the level that it was "
                "trained on, or leave the dataset out"
            )
        tiles = {name: array[chosen_B] for name, array in arrays.items()}
        check_values(_WHERE, tiles, level, names, saved.band_stats, check_units, "raw_inputs(..., check_units=False)")


def _batch(arrays: Mapping[str, Any], levels: Sequence[str]) -> tuple[Batch, tuple[int, int]]:
    shapes = {name: tuple(array.shape) for name, array in arrays.items()}
    for name, shape in shapes.items():
        if len(shape) != 4 or 0 in shape:
            raise InputError(f"dataset {name!r} has shape {shape}, (B, C, H, W) was expected")
        if shape[0] != len(levels):
            raise InputError(
                f"dataset {name!r} holds {counted(shape[0], 'tile')}, but levels are given for {len(levels)}"
            )
    for level in levels:
        if level not in S2_LEVELS:
            raise InputError(f"unknown Sentinel-2 level {level!r}{did_you_mean(str(level), S2_LEVELS)}")
    count = len(levels)
    batch = Batch(
        pixels={name: torch.tensor(array) for name, array in arrays.items()},
        level_B=torch.tensor([S2_LEVELS.index(level) for level in levels], dtype=torch.uint8),
        row_B=torch.zeros(count, dtype=torch.int64),
        key_B=torch.zeros(count, dtype=torch.int64),
        real_B=torch.ones(count, dtype=torch.bool),
    )
    _, _, height, width = next(iter(shapes.values()))
    return batch, (height, width)
