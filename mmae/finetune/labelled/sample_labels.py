"""Labels that come with the tiles of a source, as one more dataset of the batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from mmae.config.finetune_checks import CLASSES, DENSE
from mmae.data.transforms.crop import gather_pixels

if TYPE_CHECKING:
    from torch import Tensor

    from mmae.config.finetune_schema import TaskKind
    from mmae.types import Batch

LABEL: Final = "label"
"""The name of the dataset: none of MMEarth's."""


@dataclass(frozen=True)
class SampleLabels:
    """A `LabelSource`: the dataset `LABEL`, whose numbers are labels already.

    It is integer with one band for classes, -1 where a class is not known; floating point with a band a class or target
    for the other kinds, NaN where nothing is known.
    """

    kind: TaskKind
    names: tuple[str, ...]
    codes: tuple[int, ...] | None
    units: tuple[str, ...]

    @property
    def datasets(self) -> tuple[str, ...]:
        return (LABEL,)

    def labels(self, batch: Batch, index_Bhw: Tensor) -> Tensor:
        stored = batch.pixels[LABEL]
        if self.kind in DENSE:
            stored = gather_pixels(stored, torch.arange(stored.shape[1], device=stored.device), index_Bhw)
        return stored[:, 0].to(torch.int64) if self.kind in CLASSES else stored
