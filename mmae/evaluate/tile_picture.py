"""The picture of one tile: one row for each output, with input, visible part, prediction and target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmae.config.schema import ModelConfig
from mmae.evaluate.pictures import Stretch, colour_classes, grid, hide
from mmae.modalities import NORM_RGB, output_source
from mmae.types import Inputs, MaskPlan, ModelOutput

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

COLUMNS: Final = ("input", "visible", "prediction", "target")


def draw(tile: int, config: ModelConfig, inputs: Inputs, plan: MaskPlan, output: ModelOutput) -> Image:
    """The grid of one tile of a batch: one row for each output, with input, visible part, prediction and target."""
    rows = [(name, _row(name, tile, config, inputs, plan, output)) for name in config.outputs]
    return grid(rows, COLUMNS)


def _row(
    name: str, tile: int, config: ModelConfig, inputs: Inputs, plan: MaskPlan, output: ModelOutput
) -> list[NDArray[np.uint8]]:
    modality = output_source(name)
    target = inputs.values[modality.name][tile].numpy()
    valid = inputs.valid[modality.name][tile].numpy()
    predicted = _as_image(output.patches[name][tile], config.grid_hw)
    if name == NORM_RGB:
        predicted = _undo_patch_norm(predicted, target, config.grid_hw)
    if modality.categorical:
        whole = colour_classes(target, modality)
        guess = colour_classes(predicted[: modality.no_data_class].argmax(0), modality)
    else:
        stretch = Stretch.of(target, valid)
        whole = stretch.colour(target, valid)
        guess = stretch.colour(predicted, np.ones_like(valid))
    if modality.name not in config.in_domains:
        nothing = hide(whole, np.ones((1, 1), dtype=bool))
        return [nothing, nothing, guess, whole]
    place = config.in_domains.index(modality.name)
    hidden = plan.hidden_BN[tile].view(len(config.in_domains), *config.grid_hw)[place].numpy()
    return [whole, hide(whole, hidden), guess, whole]


def _as_image(patches_nCpp: Any, grid_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Patches (n, C, p, p) laid out as one image (C, h, w)."""
    rows, columns = grid_hw
    _, channels, side, _ = patches_nCpp.shape
    image = patches_nCpp.float().reshape(rows, columns, channels, side, side).permute(2, 0, 3, 1, 4)
    array: NDArray[np.float32] = image.reshape(channels, rows * side, columns * side).numpy()
    return array


def _undo_patch_norm(
    image_Chw: NDArray[np.float32], target_Chw: NDArray[np.float32], grid_hw: tuple[int, int]
) -> NDArray[np.float32]:
    """A prediction of normalised patches, with the mean and deviation of the target's patches put back."""
    channels, height, width = image_Chw.shape
    rows, columns = grid_hw
    shape = channels, rows, height // rows, columns, width // columns
    target = target_Chw.reshape(shape)
    mean = target.mean(axis=(0, 2, 4), keepdims=True)
    deviation = (target.var(axis=(0, 2, 4), ddof=1, keepdims=True) + 1e-6) ** 0.5
    restored: NDArray[np.float32] = (image_Chw.reshape(shape) * deviation + mean).reshape(image_Chw.shape)
    return restored
