"""A fine-tuned model over windows: classes or numbers of each pixel, or what it says of whole windows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from mmae.evaluate.pictures.colours import LEGENDS
from mmae.modalities import MODALITIES
from mmae.model.tuned.finetuned_model import FinetunedModel, prediction
from mmae.scenes.files.rasters import Raster
from mmae.scenes.windows.decoded_windows import rgb

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.model.tuned.task import Task
    from mmae.scenes.windows.window_inputs import WindowInputs
    from mmae.types import Inputs

_INTEGERS: Final = ("uint8", "int16", "int32")
_OF_WINDOWS: Final = "; the model judges whole windows, so a cell holds what the windows around it say"


class TaskWindows:
    """A `WindowModel` with one raster, called as the model's task.

    A pixel of a task of pixels is a cell. A task of tiles has a cell a patch.
    """

    def __init__(self, inputs: WindowInputs) -> None:
        model = inputs.encoder.model
        assert isinstance(model, FinetunedModel)
        self._inputs, self._model, self._task = inputs, model, model.task
        self.rasters = (task_raster(model.task, inputs.encoder.patch_size),)

    def prepare(self, arrays: Mapping[str, NDArray[Any]]) -> Inputs:
        return self._inputs.prepare(arrays)

    def run(self, inputs: Inputs) -> list[NDArray[np.float32]]:
        """Probabilities of classes, or numbers in the targets' units: float32 (B, R, C, K)."""
        with torch.inference_mode():
            found = prediction(self._task, self._model(inputs.values, inputs.visible()))
        if not self._task.dense:
            height, width = next(iter(inputs.values.values())).shape[-2:]
            stride = self._model.tokenizer.table[next(iter(inputs.values))].stride
            patch = self._inputs.encoder.patch_size // stride
            found = found[:, :, None, None].expand(-1, -1, height // patch, width // patch)
        return [found.permute(0, 2, 3, 1).cpu().numpy()]

    def finish(self, raster: Raster, sums_RCK: NDArray[np.float32], data_RC: NDArray[np.bool_]) -> NDArray[Any]:
        """Codes of classes, (1, R, C); or float32 numbers or probabilities, (K, R, C)."""
        data_RC = data_RC & np.isfinite(sums_RCK).all(-1)
        if raster.dtype in _INTEGERS:
            codes_RC = np.array(self._task.codes)[np.argmax(sums_RCK, axis=-1)]
            return np.where(data_RC, codes_RC, int(raster.no_data)).astype(raster.dtype)[None]
        return np.where(data_RC, sums_RCK.transpose(2, 0, 1), np.float32(raster.no_data))


def task_raster(task: Task, patch_size: int) -> Raster:
    """The raster that a task becomes."""
    cells, note = (patch_size, "") if task.dense else (1, _OF_WINDOWS)
    if task.kind in {"classification", "segmentation"}:
        dtype, no_data = _of_codes(task.codes)
        listed = ", ".join(f"{code} {name}" for code, name in zip(task.codes, task.classes, strict=True))
        tags = {"units": f"class: {listed}", "meaning": f"class with the largest mean probability over windows{note}"}
        return Raster(task.name, cells, task.outputs, dtype, no_data, ("class",), _colours(task), tags)
    if task.kind == "multilabel":
        tags = {"units": "probability of each class", "meaning": f"mean over windows{note}"}
        return Raster(task.name, cells, task.outputs, "float32", float("nan"), task.classes, tags=tags)
    units = ", ".join(f"{name} in {unit or 'no unit'}" for name, unit in zip(task.targets, task.units, strict=True))
    tags = {"units": units, "meaning": f"mean over windows{note}"}
    return Raster(task.name, cells, task.outputs, "float32", float("nan"), task.targets, tags=tags)


def _of_codes(codes: tuple[int, ...]) -> tuple[str, int]:
    """The smallest dtype that holds the codes and one more number, which means no data."""
    for name in _INTEGERS:
        limits = np.iinfo(name)
        free = next((each for each in (0, limits.max, limits.min) if each not in codes), None)
        if free is not None and limits.min <= min(codes) and max(codes) <= limits.max:
            return name, int(free)
    raise AssertionError(codes)


def _colours(task: Task) -> dict[int, tuple[int, int, int]]:
    """The colours of a land cover that this project knows, by its codes."""
    for name, legend in LEGENDS.items():
        if MODALITIES[name].class_codes == task.codes:
            return {code: rgb(colour) for code, colour in zip(task.codes, legend, strict=True)}
    return {}
