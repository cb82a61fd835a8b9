"""Pictures of a validation: reconstructions of the first tiles of the `val` split, which are always the same.

They come from the validation's own forward passes, so that all ranks compute the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from mmae.config.schema import ModelConfig
from mmae.disk.files import atomic_file
from mmae.evaluate.pictures.plain_grid import draw_plain, side_by_side
from mmae.evaluate.pictures.tile_rows import rows_of
from mmae.run.layout import TILES_KEY
from mmae.terminal.error_line import first_line
from mmae.types import Inputs, MaskPlan, ModelOutput


class ValPictures:
    """Holds the first `count` real tiles that this rank validates, and draws them. Nothing in it raises.

    Args:
        module: a `PretrainModule`; its model's predictions are drawn.
        count: number of tiles; 0 draws nothing.
    """

    def __init__(self, module: Any, config: ModelConfig, count: int) -> None:
        self._config, self._missing = config, count
        self._tiles: list[tuple[Inputs, MaskPlan, ModelOutput]] = []
        self._output: ModelOutput | None = None
        self._failed = ""
        self._hook = module.model.register_forward_hook(self._keep) if count else None

    def __call__(self, inputs: Inputs, plan: MaskPlan) -> None:
        """Take tiles of the batch that the model has just run on."""
        output, self._output = self._output, None
        if output is None or not self._missing:
            return
        try:
            self._take(inputs, plan, output)
        except Exception as error:  # A picture must not end a training.
            self._fail(error)

    def draw(self, path: Path, say: Callable[[str], None]) -> Path | None:
        """Write all tiles as one PNG. None if there is nothing to draw, or if it failed, which is reported."""
        self._stop()
        drawn = self._draw(path) if self._tiles and not self._failed else None
        if self._failed:
            say(f"no picture of this validation: {self._failed}")
        return drawn

    def _draw(self, path: Path) -> Path | None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            picture = side_by_side([draw_plain(rows_of(0, self._config, *tile)) for tile in self._tiles])
            with atomic_file(path) as file:
                picture.save(file, format="PNG", pnginfo=_about(len(self._tiles)))
        except Exception as error:  # A picture must not end a training.
            self._fail(error)
            return None
        return path

    def _keep(self, _module: object, _args: object, output: ModelOutput) -> None:
        self._output = output

    def _take(self, inputs: Inputs, plan: MaskPlan, output: ModelOutput) -> None:
        real = inputs.real_B.nonzero().flatten().tolist()
        for tile in real[: self._missing]:
            self._tiles.append(_of_tile(tile, inputs, plan, output))
        self._missing -= min(self._missing, len(real))
        if not self._missing:
            self._stop()

    def _fail(self, error: Exception) -> None:
        self._failed = first_line(error)
        self._missing = 0
        self._stop()

    def _stop(self) -> None:
        if self._hook is not None:
            self._hook.remove()
            self._hook = None
        self._output = None


def _about(tiles: int) -> PngInfo:
    """What readers of the file need to know: the number of tiles side by side."""
    info = PngInfo()
    info.add_text(TILES_KEY, str(tiles))
    return info


def _of_tile(tile: int, inputs: Inputs, plan: MaskPlan, output: ModelOutput) -> tuple[Inputs, MaskPlan, ModelOutput]:
    """A batch of one tile, on the host."""

    def one(tensor: Tensor) -> Tensor:
        return tensor[tile : tile + 1].detach().to("cpu", copy=True)

    def each(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: one(tensor) for name, tensor in tensors.items()}

    return (
        Inputs(
            each(inputs.values), each(inputs.valid), each(inputs.token_valid), one(inputs.key_B), one(inputs.real_B)
        ),
        MaskPlan(one(plan.keep_BK), one(plan.hidden_BN), one(plan.filled_B)),
        ModelOutput(each(output.patches), torch.empty(0)),
    )
