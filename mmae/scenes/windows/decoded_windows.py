"""The pretrained decoders over windows: land cover, relative elevation, reflectance, each from the other modalities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from mmae.data.transforms.stats_entry import band_numbers
from mmae.errors import InputError, did_you_mean
from mmae.evaluate.pictures.colours import LEGENDS
from mmae.modalities import MODALITIES, NORM_RGB, S2_LEVELS, Modality, stats_entry
from mmae.model.features import groups_of_equal_length
from mmae.scenes.files.rasters import Raster

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from mmae.model.mmae import MultiMAE
    from mmae.model.saved.saved_config import SavedModel
    from mmae.scenes.windows.window_inputs import WindowInputs
    from mmae.types import Inputs

_MOST_DN: Final = 65535
_RELATIVE: Final = (
    "elevation relative to its window, in standard deviations of that window's inner values: it ranks places that are "
    "near one another, and is no height in metres; heights of places further apart than a window cannot be compared"
)


class DecodedWindows:
    """A `WindowModel` with one raster an output.

    A decoder was trained on hidden patches, so it never sees the modality that it predicts: reflectance of the visible
    bands comes from the other bands.

    Raises:
        InputError: the model has no such output, or an output is all that is given.
    """

    def __init__(self, inputs: WindowInputs, outputs: Sequence[str]) -> None:
        self._inputs, self._saved = inputs, inputs.encoder.saved
        level = inputs.numbers.level
        check_outputs(self._saved, outputs)
        given = inputs.encoder.plan(inputs.bands).names
        self.rasters = tuple(_raster(MODALITIES[name], self._saved, level) for name in outputs)
        self._scales = {name: _scale(MODALITIES[name], self._saved, level) for name in outputs}
        self._shown: dict[tuple[str, ...], list[str]] = {}
        for name in outputs:
            shown = tuple(other for other in given if other != name)
            if not shown:
                raise InputError(f"--outputs {name}: nothing but {name} itself is given: give more bands")
            self._shown.setdefault(shown, []).append(name)

    def prepare(self, arrays: Mapping[str, NDArray[Any]]) -> Inputs:
        return self._inputs.prepare(arrays)

    def run(self, inputs: Inputs) -> list[NDArray[np.float32]]:
        """Class probabilities, or values as the decoders predict them: float32 (B, R, C, channels)."""
        found: dict[str, NDArray[np.float32]] = {}
        with torch.inference_mode():
            for shown, names in self._shown.items():
                patches = decode(self._inputs.encoder.model, inputs, shown, names)
                for name in names:
                    found[name] = _cells(MODALITIES[name], patches[name], self._saved.config.grid_hw).cpu().numpy()
        return [found[raster.name] for raster in self.rasters]

    def finish(self, raster: Raster, sums_RCK: NDArray[np.float32], data_RC: NDArray[np.bool_]) -> NDArray[Any]:
        """The finished raster: codes of classes, digital numbers, or float32."""
        modality = MODALITIES[raster.name]
        data_RC = data_RC & np.isfinite(sums_RCK).all(-1)
        if modality.categorical:
            codes = np.array(modality.class_codes)[np.argmax(sums_RCK, axis=-1)]
            return np.where(data_RC, codes, int(raster.no_data)).astype(raster.dtype)[None]
        scale, mean = self._scales[raster.name]
        values_KRC = (sums_RCK * scale + mean).transpose(2, 0, 1)
        if raster.dtype == "uint16":
            # 0 is no data.
            values_KRC = np.clip(np.rint(np.where(data_RC, values_KRC, 1)), 1, _MOST_DN)
        return np.where(data_RC, values_KRC, raster.no_data).astype(raster.dtype)


def decode(model: MultiMAE, inputs: Inputs, shown: Sequence[str], outputs: Sequence[str]) -> dict[str, Tensor]:
    """Predictions (B, n, C, p, p) of outputs from all tokens with data of the modalities `shown`.

    Windows without any such token are NaN. Windows with equally many tokens are computed together.
    """
    config = model.config
    places, names = config.tokens_per_modality, [name for name in config.in_domains if name in shown]
    tokens_BND = torch.cat([model.tokenizer.adapters[name](inputs.values[name]) for name in names], dim=1)
    visible_BN = torch.cat([inputs.token_valid[name] for name in names], dim=1)
    ids_N = torch.cat(
        [config.in_domains.index(name) * places + torch.arange(places, device=tokens_BND.device) for name in names]
    )
    count = visible_BN.shape[0]
    found: dict[str, Tensor] = {}
    for tiles_b, keep_bK in groups_of_equal_length(visible_BN):
        if not keep_bK.shape[1]:
            continue
        patches = model.decoders(model.encoder(tokens_BND[tiles_b], keep_bK), ids_N[keep_bK])
        for name in outputs:
            whole = found.setdefault(name, patches[name].new_full((count, *patches[name].shape[1:]), torch.nan))
            whole[tiles_b] = patches[name]
    return found or {name: _nothing(model, name, count) for name in outputs}


def check_outputs(saved: SavedModel, outputs: Sequence[str]) -> None:
    """Raise InputError if the model has no decoder for an output, or its prediction has no place in a raster."""
    for name in outputs:
        if name == NORM_RGB:
            raise InputError(f"--outputs {name}: its patches are normalised one by one: say rgb")
        if name not in saved.config.out_domains:
            known = did_you_mean(name, saved.config.out_domains)
            raise InputError(f"--outputs {name}: this model has no such decoder{known}")
        if outputs.count(name) > 1:
            raise InputError(f"--outputs names {name} twice")


def _nothing(model: MultiMAE, name: str, count: int) -> Tensor:
    row, config = MODALITIES[name], model.config
    side = row.patch(config.patch_size)
    weight = model.decoders.out_proj[name].weight
    assert isinstance(weight, torch.Tensor)
    return weight.new_full((count, config.tokens_per_modality, row.channels, side, side), torch.nan)


def _cells(row: Modality, patches_BnCpp: Tensor, grid_hw: tuple[int, int]) -> Tensor:
    """Patches as an image (B, R, C, channels) in float32; logits as probabilities of the classes."""
    if row.categorical:
        patches_BnCpp = patches_BnCpp[:, :, : row.no_data_class].float().softmax(dim=2)
    batch, _, channels, side, _ = patches_BnCpp.shape
    grid_BhwCpp = patches_BnCpp.float().view(batch, *grid_hw, channels, side, side)
    return grid_BhwCpp.permute(0, 1, 4, 2, 5, 3).reshape(batch, grid_hw[0] * side, grid_hw[1] * side, channels)


def _raster(row: Modality, saved: SavedModel, level: str | None) -> Raster:
    cells = row.patch(saved.config.patch_size)
    if row.categorical:
        legend = dict(zip(row.class_codes, map(_rgb, LEGENDS[row.name]), strict=True))
        tags = {"units": row.units, "meaning": "class with the largest mean probability over windows"}
        return Raster(row.name, cells, row.no_data_class, "uint8", 0, row.band_names, legend, tags)
    if row.standardise:
        tags = {"units": "standard deviations within a window", "meaning": _RELATIVE}
        return Raster(row.name, cells, row.channels, "float32", float("nan"), row.band_names, tags=tags)
    of_level = f", Sentinel-2 level {level}" if row.by_level else ""
    tags = {"units": row.units, "meaning": f"predicted from the other modalities{of_level}"}
    reflectance = row.dataset == "sentinel2"
    dtype, no_data = ("uint16", 0.0) if reflectance else ("float32", float("nan"))
    return Raster(row.name, cells, row.channels, dtype, no_data, row.band_names, tags=tags)


def _scale(row: Modality, saved: SavedModel, level: str | None) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Deviation and mean of each band, which undo the normalisation; 1 and 0 where there is none to undo."""
    if row.categorical or row.standardise:
        return np.ones(1, np.float32), np.zeros(1, np.float32)
    if row.by_level and level is None:
        raise InputError(
            f"--outputs {row.name}: it is of a Sentinel-2 level: say --level l1c (top of atmosphere) or l2a (surface)"
        )
    known = next((each for each in S2_LEVELS if each == level), S2_LEVELS[0])
    entry = stats_entry(row, known)
    numbers = band_numbers(saved.band_stats, entry)
    if numbers is None or np.isnan(numbers.mean_C[list(row.bands)]).any():
        raise InputError(
            f"--outputs {row.name}: the model's band statistics have no entry {entry!r} to bring it to {row.units}"
        )
    bands = list(row.bands)
    return numbers.std_C[bands].astype(np.float32), numbers.mean_C[bands].astype(np.float32)


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[:2], 16), int(colour[2:4], 16), int(colour[4:], 16)
