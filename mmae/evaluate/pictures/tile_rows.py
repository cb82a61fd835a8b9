"""What the pictures of one tile show: for each output its target, prediction and loss, in real numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mmae.config.schema import ModelConfig
from mmae.data.transforms.normalise import normalisation
from mmae.losses import NORM_EPS, sample_losses, scored
from mmae.modalities import NORM_RGB, Modality, output_source
from mmae.types import Inputs, MaskPlan, ModelOutput

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

REFLECTANCE_UNIT = "reflectance"
_STORED_REFLECTANCE = "reflectance x 10000"


@dataclass(frozen=True, eq=False)
class TileRow:
    """One output of one tile. Pixels are those of the modality: class ids are (h, w), other values (C, h, w).

    Attributes:
        output: name of the decoder.
        unit: of target and prediction.
        target: float32 (C, h, w), or int64 (h, w) class ids.
        valid: bool, shaped like the target: True where it is data.
        predicted: shaped like the target.
        visible: bool (rows, columns), the patches that the encoder saw; None where the modality is not an input.
        scored: bool (h, w), the pixels that the loss counts.
        loss: as training computes it, of this tile alone; None where no pixel is scored.
    """

    output: str
    unit: str
    target: NDArray[Any]
    valid: NDArray[np.bool_]
    predicted: NDArray[Any]
    visible: NDArray[np.bool_] | None
    scored: NDArray[np.bool_]
    loss: float | None

    @property
    def modality(self) -> Modality:
        """The modality that the output is compared with."""
        return output_source(self.output)

    @property
    def has_data(self) -> NDArray[np.bool_]:
        """Bool (h, w), True where any band is data."""
        return self.valid if self.modality.categorical else np.logical_or.reduce(self.valid, axis=0)

    def mean_error(self) -> float | None:
        """Mean absolute error over scored pixels and their valid bands, in the row's unit; None without such a pixel.

        Of classes: the share of scored pixels with the wrong one.
        """
        counted = self.scored & self.has_data if self.modality.categorical else self.scored & self.valid
        return float(self.errors()[counted].mean()) if counted.any() else None

    def errors(self) -> NDArray[np.float32]:
        """Absolute errors, float32, shaped like the target; 1 where a class is wrong."""
        if self.modality.categorical:
            wrong: NDArray[np.float32] = (self.predicted != self.target).astype(np.float32)
            return wrong
        apart: NDArray[np.float32] = np.abs(self.predicted - self.target).astype(np.float32)
        return apart


class RealNumbers:
    """Brings the normalised values of one tile back to real units: metres, reflectance, decibels, degrees.

    Args:
        band_stats: the statistics that the model's inputs are normalised with.
        level: the tile's Sentinel-2 level, an index into `S2_LEVELS`.
        tile_scales: mean and deviation of each modality that is standardised tile by tile (`Preprocess.tile_scales`).
    """

    def __init__(
        self, band_stats: Mapping[str, Any], level: int, tile_scales: Mapping[str, tuple[float, float]]
    ) -> None:
        self._band_stats, self._level, self._tile_scales = band_stats, level, tile_scales

    def unit(self, modality: Modality) -> str:
        """The unit of what `__call__` returns."""
        return REFLECTANCE_UNIT if modality.units == _STORED_REFLECTANCE else modality.units

    def __call__(self, modality: Modality, values_Chw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Normalised values (C, h, w) in real units. A band whose deviation is 0 or unknown becomes its mean."""
        if modality.name in self._tile_scales:
            mean, deviation = self._tile_scales[modality.name]
            values_Chw = values_Chw * np.float32(deviation) + np.float32(mean)
        used = normalisation(modality, self._band_stats, torch.device("cpu"))
        scale_C, mean_C = used.scale_SC[self._level].numpy(), used.mean_SC[self._level].numpy()
        deviation_C = np.divide(1.0, scale_C, out=np.zeros_like(scale_C), where=scale_C > 0)
        stored = values_Chw * deviation_C[:, None, None] + mean_C[:, None, None]
        real: NDArray[np.float32] = stored / 10_000 if modality.units == _STORED_REFLECTANCE else stored
        return real.astype(np.float32)


def rows_of(
    tile: int, config: ModelConfig, inputs: Inputs, plan: MaskPlan, output: ModelOutput, real: RealNumbers | None = None
) -> tuple[TileRow, ...]:
    """The rows of one tile of a batch on the host, one for each output.

    Args:
        real: brings values back to real units; None: they stay normalised.
    """
    losses = sample_losses(output, inputs, plan, config)[:, tile].tolist()
    counted = scored(inputs, plan, config)[:, tile].tolist()
    return tuple(
        _row(name, tile, config, inputs, plan, output, real, loss if counts else None)
        for name, loss, counts in zip(config.outputs, losses, counted, strict=True)
    )


def _row(
    name: str,
    tile: int,
    config: ModelConfig,
    inputs: Inputs,
    plan: MaskPlan,
    output: ModelOutput,
    real: RealNumbers | None,
    loss: float | None,
) -> TileRow:
    modality = output_source(name)
    target = inputs.values[modality.name][tile].numpy()
    valid = inputs.valid[modality.name][tile].numpy()
    predicted = _as_image(output.patches[name][tile], config.grid_hw)
    visible = _visible(modality.name, tile, config, plan)
    hidden = np.ones(config.grid_hw, dtype=bool) if visible is None or config.loss_on_unmasked else ~visible
    scored_hw = _to_pixels(hidden, valid.shape[-2:]) & (valid if modality.categorical else valid.any(0))
    if modality.categorical:
        guess = predicted[: modality.no_data_class].argmax(0)
        return TileRow(name, modality.units, target, valid, guess, visible, scored_hw, loss)
    if name == NORM_RGB:
        predicted = _undo_patch_norm(predicted, target, valid, config.grid_hw)
    if real is None:
        return TileRow(name, "standard deviations", target, valid, predicted, visible, scored_hw, loss)
    target, predicted = real(modality, target), real(modality, predicted)
    return TileRow(name, real.unit(modality), target, valid, predicted, visible, scored_hw, loss)


def _visible(modality: str, tile: int, config: ModelConfig, plan: MaskPlan) -> NDArray[np.bool_] | None:
    if modality not in config.in_domains:
        return None
    place = config.in_domains.index(modality)
    hidden: NDArray[np.bool_] = plan.hidden_BN[tile].view(len(config.in_domains), *config.grid_hw)[place].numpy()
    return ~hidden


def _to_pixels(patches: NDArray[np.bool_], size: tuple[int, ...]) -> NDArray[np.bool_]:
    """One entry a patch (rows, columns) as one a pixel (h, w)."""
    return np.kron(patches, np.ones((size[0] // patches.shape[0], size[1] // patches.shape[1]), dtype=bool)).astype(
        bool
    )


def _as_image(patches_nCpp: Tensor, grid_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Patches (n, C, p, p) laid out as one image (C, h, w)."""
    rows, columns = grid_hw
    _, channels, side, _ = patches_nCpp.shape
    image = patches_nCpp.float().reshape(rows, columns, channels, side, side).permute(2, 0, 3, 1, 4)
    array: NDArray[np.float32] = image.reshape(channels, rows * side, columns * side).numpy()
    return array


def _undo_patch_norm(
    image_Chw: NDArray[np.float32],
    target_Chw: NDArray[np.float32],
    valid_Chw: NDArray[np.bool_],
    grid_hw: tuple[int, int],
) -> NDArray[np.float32]:
    """A prediction of normalised patches, with the mean and deviation of the target's patches put back."""
    channels, height, width = image_Chw.shape
    rows, columns = grid_hw
    shape = channels, rows, height // rows, columns, width // columns
    axes = (0, 2, 4)
    target, valid = target_Chw.reshape(shape), valid_Chw.reshape(shape)
    count = valid.sum(axis=axes, keepdims=True)
    mean = np.where(valid, target, 0).sum(axis=axes, keepdims=True) / np.maximum(count, 1)
    squares = np.where(valid, target - mean, 0) ** 2
    deviation = (squares.sum(axis=axes, keepdims=True) / np.maximum(count - 1, 1) + NORM_EPS) ** 0.5
    restored: NDArray[np.float32] = (image_Chw.reshape(shape) * deviation + mean).reshape(image_Chw.shape)
    return restored
