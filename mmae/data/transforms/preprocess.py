"""From stored integers to the model's inputs, on the model's device, for a whole batch at once.

The order matters: validity is decided on stored values, class codes are translated once, and only then
is a number normalised. Nothing here waits for the device, and every shape is known beforehand.
Randomness comes from `Batch.key_B` alone, so a tile becomes the same sample in whatever batch it stands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from mmae.data.transforms.crop import centre_corners, gather_pixels, random_corners, random_flips, source_index
from mmae.data.transforms.labels import class_ids, class_table, reduce_labels
from mmae.data.transforms.normalise import normalisation
from mmae.data.transforms.resize import block_mean, resize_bilinear, resize_nearest
from mmae.data.transforms.standardise import standardise, tile_deviations, tile_scale
from mmae.data.transforms.validity import is_data, token_valid, widen
from mmae.errors import InputError
from mmae.modalities import MODALITIES, Modality
from mmae.types import Batch, Inputs

if TYPE_CHECKING:
    from torch import Tensor

    from mmae.config.schema import DataConfig, ModelConfig
    from mmae.data.transforms.crop import Size


class Preprocess:
    """Computes the model's inputs for the modalities of `model.domains`.

    With `train`, samples are cropped and flipped at random as `data.crop` and `data.flip` say; without,
    the crop is the middle of the tile and nothing is flipped.

    A pixel whose level or band has no statistics is no data: it cannot be normalised.

    With `model.paper_exact`, stored no-data values are numbers like any other, as in the published code;
    only what is not finite, or has no statistics, stays without data.

    `bands` names the bands that the batches hold of each dataset, in their order; None: all of them. `table` says what
    modalities are, where a model takes other bands of them.

    Raises:
        InputError: `band_stats` lacks a dataset; on the first batch: its tiles are too small to be cropped.
    """

    def __init__(
        self,
        config: DataConfig,
        model: ModelConfig,
        band_stats: Mapping[str, Any],
        device: torch.device,
        bands: Mapping[str, Sequence[int]] | None = None,
        table: Mapping[str, Modality] = MODALITIES,
    ) -> None:
        self._config = config
        self._image_hw = model.image_hw
        self._patch_size = model.patch_size
        self._exact = model.paper_exact
        self._rows = [table.get(name, MODALITIES[name]) for name in model.domains]
        places = {row.name: _places(row, bands) for row in self._rows}
        self._bands = {name: torch.tensor(of, device=device) for name, of in places.items()}
        self._tables = {row.name: class_table(row, device) for row in self._rows if row.categorical}
        self._normalise = {
            row.name: normalisation(row, band_stats, device) for row in self._rows if not row.categorical
        }

    def __call__(self, batch: Batch, train: bool) -> Inputs:
        """The batch, already on the device, as `Inputs`: random crop and flips in training only."""
        index_Bhw = self.source_index(batch, train)
        values, valid = {}, {}
        for row in self._rows:
            prepare = self._labels if row.categorical else self._pixels
            values[row.name], valid[row.name] = prepare(row, batch, index_Bhw)
        tokens = {row.name: token_valid(valid[row.name], row.patch(self._patch_size)) for row in self._rows}
        return Inputs(values, valid, tokens, batch.key_B, batch.real_B)

    def units(self, batch: Batch) -> Mapping[str, Tensor]:
        """What a difference of 1 in the values of each continuous modality is in its stored units, float32 (B, C).

        It is that of samples that are not for training. 0 where it is not known: where a band's statistics have no
        deviation, or a tile that is standardised by itself has too few values.
        """
        index_Bhw = self.source_index(batch, train=False)
        units = {}
        for row in self._rows:
            if row.categorical:
                continue
            units[row.name] = self._normalise[row.name].units(batch.level_B)
            if row.standardise:
                units[row.name] = (units[row.name] * tile_deviations(*self._normalised(row, batch, index_Bhw))).float()
        return units

    def source_index(self, batch: Batch, train: bool) -> Tensor:
        """Where each pixel of a sample lies in its tile, int64 (B, H, W); whole tiles with `data.crop=resize`."""
        tile_hw = self.tile_size({name: tuple(pixels.shape) for name, pixels in batch.pixels.items()})
        window_hw = tile_hw if self._config.crop == "resize" else self._image_hw
        quarter_turns = len({*window_hw}) == len({*self._image_hw}) == 1
        symmetry_B = random_flips(batch.key_B, self._config.flip if train else "none", quarter_turns)
        if train:
            top_B, left_B = random_corners(batch.key_B, tile_hw, window_hw)
        else:
            top_B, left_B = centre_corners(batch.key_B, tile_hw, window_hw)
        return source_index(top_B, left_B, symmetry_B, window_hw, tile_hw[1])

    def tile_scales(self, batch: Batch, train: bool) -> Mapping[str, tuple[Tensor, Tensor]]:
        """Mean and deviation, float64 (B,) each, that tiles are standardised by: of each modality that is.

        They are in the units of the global normalisation, and belong to `self(batch, train)`.
        """
        index_Bhw = self.source_index(batch, train)
        return {row.name: tile_scale(*self._normalised(row, batch, index_Bhw)) for row in self._rows if row.standardise}

    def tile_size(self, shapes: Mapping[str, tuple[int, ...]]) -> Size:
        """Height and width of the tiles, from the shapes of the datasets' arrays.

        Raises:
            InputError: the datasets differ in size, or are too small to be cropped.
        """
        sizes: dict[Size, str] = {}
        for row in self._rows:
            height, width = shapes[row.dataset][-2:]
            sizes.setdefault((height, width), row.dataset)
        if len(sizes) > 1:
            listed = ", ".join(f"{dataset} {height}x{width}" for (height, width), dataset in sizes.items())
            raise InputError(f"the datasets' tiles differ in size ({listed}): bring them to one grid before repacking")
        ((height, width),) = sizes
        if self._config.crop != "resize" and (height < self._image_hw[0] or width < self._image_hw[1]):
            raise InputError(
                f"tiles of {height}x{width} pixels are smaller than model.input_size="
                f"{self._image_hw[0]}x{self._image_hw[1]}: use a smaller input size, or data.crop=resize"
            )
        return height, width

    def _stored(self, row: Modality, batch: Batch, index_Bhw: Tensor) -> Tensor:
        pixels = batch.pixels[row.dataset]
        return widen(gather_pixels(pixels, self._bands[row.name], index_Bhw), pixels.dtype == torch.uint16)

    def _pixels(self, row: Modality, batch: Batch, index_Bhw: Tensor) -> tuple[Tensor, Tensor]:
        values, valid = self._normalised(row, batch, index_Bhw)
        return (standardise(values, valid) if row.standardise else values), valid

    def _normalised(self, row: Modality, batch: Batch, index_Bhw: Tensor) -> tuple[Tensor, Tensor]:
        stored = self._stored(row, batch, index_Bhw)
        valid = is_data(stored, () if self._exact else row.no_data)
        normalise = self._normalise[row.name]
        valid = normalise.usable(valid, batch.level_B)
        # Selected, not multiplied: -inf or NaN times 0 would be NaN.
        values = torch.where(valid, normalise(stored, batch.level_B), 0)
        if self._config.crop == "resize":
            values, valid = resize_bilinear(values, valid, self._image_hw)
        if row.stride > 1:
            values, valid = block_mean(values, valid, row.stride)
        return values, valid

    def _labels(self, row: Modality, batch: Batch, index_Bhw: Tensor) -> tuple[Tensor, Tensor]:
        if self._config.crop == "resize":
            index_Bhw = resize_nearest(index_Bhw, self._image_hw)
        ids = class_ids(self._stored(row, batch, index_Bhw)[:, 0], self._tables[row.name])
        ids = reduce_labels(ids, row.stride, self._config.labels, row.no_data_class)
        return ids, (ids != row.no_data_class) | self._exact


def _places(row: Modality, bands: Mapping[str, Sequence[int]] | None) -> list[int]:
    """Where a modality's bands stand in the arrays of its dataset."""
    return [band if bands is None else bands[row.dataset].index(band) for band in row.bands]
