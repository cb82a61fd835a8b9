"""MMEarth's stored arrays as a saved model's inputs: validity, class ids and the model's own normalisation.

saved = read_model_config("model")
inputs = raw_inputs(saved, {"sentinel2": array_BCHW}, ["l2a"])
maps, global_tokens = features(load_model("model"), inputs.values, inputs.token_valid)

Arrays of other sources, with some of the bands or in other units, are for `mmae.load_encoder`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from mmae.config.schema import DataConfig
from mmae.data.checks.stats_cover import missing_entries
from mmae.data.checks.units import Remedy, before_packing
from mmae.data.checks.value_check import check_values
from mmae.data.transforms.preprocess import Preprocess
from mmae.data.transforms.shapes import check_counts, check_shapes
from mmae.errors import InputError, did_you_mean
from mmae.modalities import DATASET_BANDS, MODALITIES, S2_LEVELS, S2Level
from mmae.terminal.plurals import counted
from mmae.types import Batch, Inputs

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from mmae.model.saved.saved_config import SavedModel

_WHERE: Final = "the tiles"
_MEND: Final = "leave the bands of this modality out, or take a model that was trained with them"


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
            with its dataset here is computed. H and W are multiples of the patch size. What a numpy mask hides is no
            data.
        levels: the Sentinel-2 level of each tile.
        check_units: compare the values with the statistics. False: the caller knows that they are right.

    Returns:
        Values, validity, and which tokens hold data: `token_valid` is the mask for `features`.

    Raises:
        InputError: no dataset of the model; sizes or bands that do not fit; a level or band with data for which the
            model folder has no statistics; or values that cannot be in the units of the statistics.
    """
    inputs = saved.config.in_domains
    names = tuple(name for name in inputs if MODALITIES[name].dataset in arrays)
    datasets = sorted({MODALITIES[name].dataset for name in inputs})
    for dataset in arrays:
        if dataset not in datasets:
            raise InputError(f"no input of this model comes from dataset {dataset!r}{did_you_mean(dataset, datasets)}")
    if not names:
        raise InputError(f"no dataset is given; this model's inputs come from {', '.join(datasets)}")
    shapes = {name: array.shape[1:] for name, array in arrays.items()}
    _check_batch(arrays, levels)
    arrays = {name: without_mask(array, name) for name, array in arrays.items()}
    check_shapes(_WHERE, shapes, {name: array.dtype for name, array in arrays.items()}, names)
    # torch takes no negative strides, as flipped arrays have.
    pixels = {name: torch.tensor(np.ascontiguousarray(array)) for name, array in arrays.items()}
    whole = {name: tuple(range(DATASET_BANDS[name])) for name in arrays}
    check = "raw_inputs(..., check_units=False)" if check_units else None
    return stored_inputs(saved, pixels, whole, names, levels, device, check)


def without_mask(array: NDArray[Any], dataset: str) -> NDArray[Any]:
    """The same numbers in an array that is not masked: what the mask hides is no data.

    Class codes keep their dtype, and a masked one becomes the code for no data; other datasets become floating-point
    numbers with NaN.
    """
    if not isinstance(array, np.ma.MaskedArray):
        return array
    codes = [row.no_data[0] for row in MODALITIES.values() if row.dataset == dataset and row.categorical]
    if codes:
        return np.asarray(array.filled(codes[0]))
    floats = array.data if array.dtype.kind == "f" else array.data.astype(np.float64)
    return np.where(np.ma.getmaskarray(array), np.nan, floats)


def stored_inputs(
    saved: SavedModel,
    pixels: Mapping[str, Tensor],
    bands: Mapping[str, Sequence[int]],
    names: Sequence[str],
    levels: Sequence[S2Level],
    device: torch.device | str,
    switch: str | None,
    remedy: Remedy = before_packing,
) -> Inputs:
    """The inputs `names` of a model, from arrays that hold some bands of MMEarth's datasets in its units.

    Args:
        pixels: dataset -> (B, C, H, W); C are the bands `bands[dataset]`, indices in MMEarth's dataset.
        names: the modalities that are computed; all of their bands are there.
        switch: what turns the comparison of values with the statistics off, for the message; None: it is off.
        remedy: what the user can do about values in other units, for the message.

    Raises:
        InputError: as `raw_inputs`.
    """
    _check_batch(pixels, levels)
    config = saved.config
    patch, size = config.patch_size, tuple(next(iter(pixels.values())).shape[-2:])
    if size[0] % patch or size[1] % patch:
        raise InputError(
            f"tiles of {size[0]}x{size[1]} pixels do not divide into patches of {patch}x{patch}: crop them"
        )
    names = tuple(names)
    model = replace(
        config, in_domains=names, out_domains=names, input_size=(size[0], size[1]), extra_norm_pix_loss=False
    )
    _check_levels(saved, names, levels)
    _check_foreign(saved, names, bands)
    device = torch.device(device)
    preprocess = Preprocess(DataConfig(), model, saved.band_stats, device, bands, saved.table)
    whole = {dataset: (_count(saved, dataset), *size) for dataset in pixels}
    check_counts(_WHERE, whole, names, saved.band_stats)
    _check_values(saved, pixels, bands, names, levels, switch, remedy)
    inputs = preprocess(_batch(pixels, levels).to(device), train=False)
    for name, values in inputs.values.items():
        if not bool(torch.isfinite(values).all()):
            raise InputError(
                f"{name}: normalised values are beyond every float32: a deviation in the model's band statistics is "
                "too small, or a value too large"
            )
    return inputs


def _check_levels(saved: SavedModel, names: Sequence[str], levels: Sequence[S2Level]) -> None:
    for level in dict.fromkeys(levels):
        count = sum(of == level for of in levels)
        for entry, needed_by in missing_entries(names, saved.band_stats, level).items():
            needs = f"{', '.join(needed_by)} {'needs' if len(needed_by) == 1 else 'need'}"
            lacks = f"the band statistics of the model have no entry {entry!r}, which {needs}"
            if not entry.endswith(f"_{level}"):
                raise InputError(f"{lacks}: leave the dataset out")
            raise InputError(
                f"{count} of {len(levels)} tiles are Sentinel-2 {level}, and {lacks}: give tiles of the level that it "
                "was trained on, or leave the dataset out"
            )


def _check_values(
    saved: SavedModel,
    pixels: Mapping[str, Tensor],
    bands: Mapping[str, Sequence[int]],
    names: Sequence[str],
    levels: Sequence[S2Level],
    switch: str | None,
    remedy: Remedy,
) -> None:
    """Raise InputError if the model's statistics or class tables do not fit these tiles."""
    arrays = {name: tensor.cpu().numpy() for name, tensor in pixels.items()}
    for level in dict.fromkeys(levels):
        chosen_B = [tile for tile, of in enumerate(levels) if of == level]
        tiles = {name: array[chosen_B] for name, array in arrays.items()}
        stats = saved.band_stats
        units, table = switch is not None, saved.table
        check_values(_WHERE, tiles, level, names, stats, units, switch or "", remedy, bands, _MEND, table)


def _check_foreign(saved: SavedModel, names: Sequence[str], bands: Mapping[str, Sequence[int]]) -> None:
    """Refuse tiles that lack a band which only this model has: MMEarth's own are all there."""
    for row in (saved.table[name] for name in names):
        lacking = [name for band, name in zip(row.bands, row.band_names, strict=True) if band not in bands[row.dataset]]
        if lacking:
            raise InputError(
                f"{row.name} takes {', '.join(lacking)}, which {row.dataset} of MMEarth does not have: give arrays "
                "with named bands to mmae.load_encoder, or leave the dataset out"
            )


def _count(saved: SavedModel, dataset: str) -> int:
    """Bands that the statistics of a dataset have: MMEarth's, and those of the model that MMEarth does not have."""
    rows = [saved.table[name] for name in saved.config.in_domains if saved.table[name].dataset == dataset]
    return max(DATASET_BANDS[dataset], *(band + 1 for row in rows for band in row.bands))


def _check_batch(pixels: Mapping[str, Any], levels: Sequence[str]) -> None:
    for name, array in pixels.items():
        shape = tuple(array.shape)
        if len(shape) != 4 or 0 in shape:
            raise InputError(f"dataset {name!r} has shape {shape}, (B, C, H, W) was expected")
        if shape[0] != len(levels):
            raise InputError(
                f"dataset {name!r} holds {counted(shape[0], 'tile')}, but levels are given for {len(levels)}"
            )
    for level in levels:
        if level not in S2_LEVELS:
            raise InputError(f"unknown Sentinel-2 level {level!r}{did_you_mean(str(level), S2_LEVELS)}")


def _batch(pixels: Mapping[str, Tensor], levels: Sequence[S2Level]) -> Batch:
    count = len(levels)
    return Batch(
        pixels=pixels,
        level_B=torch.tensor([S2_LEVELS.index(level) for level in levels], dtype=torch.uint8),
        row_B=torch.zeros(count, dtype=torch.int64),
        key_B=torch.zeros(count, dtype=torch.int64),
        real_B=torch.ones(count, dtype=torch.bool),
    )
