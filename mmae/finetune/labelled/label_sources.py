"""Where labels come from: a map of the shards, a vector of the shards, or a file. None of them is ever an input.

A label that is not known is `UNKNOWN` among classes, and NaN among numbers.
Shape suffixes: K classes or targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import torch

from mmae.data.transforms.crop import gather_pixels
from mmae.data.transforms.labels import class_ids, class_table
from mmae.data.transforms.validity import is_data, widen

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from mmae.config.finetune_schema import TaskKind
    from mmae.modalities import Modality
    from mmae.types import Batch

UNKNOWN: Final = -1
"""The class id of a label that is not known."""


class LabelSource(Protocol):
    """Reads the labels of a batch.

    Attributes:
        datasets: what must be read of a tile.
        names: classes, or targets of a regression.
        codes: the number of each class in files; None: its id.
        units: of each target.
    """

    @property
    def datasets(self) -> tuple[str, ...]: ...

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def codes(self) -> tuple[int, ...] | None: ...

    @property
    def units(self) -> tuple[str, ...]: ...

    def labels(self, batch: Batch, index_Bhw: Tensor) -> Tensor:
        """The labels of a batch, on its device.

        classification int64 (B,); multilabel float32 (B, K), NaN throughout for a tile without labels; segmentation
        int64 (B, H, W); regression float32 (B, K); pixel_regression float32 (B, K, H, W).

        Args:
            index_Bhw: where each pixel of a sample lies in its tile.
        """
        ...


@dataclass(frozen=True)
class MapLabels:
    """A modality as labels, pixel by pixel, or summed up for a tile: its most frequent class, its classes, its mean.

    Attributes:
        least_share: share of the known pixels from which a class counts as present.
    """

    modality: Modality
    kind: TaskKind
    least_share: float = 0.01

    @property
    def datasets(self) -> tuple[str, ...]:
        return (self.modality.dataset,)

    @property
    def names(self) -> tuple[str, ...]:
        if self.modality.categorical:
            return self.modality.class_names
        return self.modality.band_names

    @property
    def codes(self) -> tuple[int, ...] | None:
        return self.modality.class_codes or None

    @property
    def units(self) -> tuple[str, ...]:
        return () if self.modality.categorical else (self.modality.units,) * len(self.modality.bands)

    def labels(self, batch: Batch, index_Bhw: Tensor) -> Tensor:
        row = self.modality
        pixels = batch.pixels[row.dataset]
        bands = torch.tensor(row.bands, device=index_Bhw.device)
        stored_BCHW = widen(gather_pixels(pixels, bands, index_Bhw), pixels.dtype == torch.uint16)
        if row.categorical:
            ids_BHW = class_ids(stored_BCHW[:, 0], class_table(row, index_Bhw.device))
            return self._of_classes(torch.where(ids_BHW == row.no_data_class, UNKNOWN, ids_BHW))
        known_BCHW = is_data(stored_BCHW, row.no_data)
        values_BCHW = torch.where(known_BCHW, stored_BCHW.to(torch.float32), torch.nan)
        if self.kind == "pixel_regression":
            return values_BCHW
        return values_BCHW.to(torch.float64).flatten(2).nanmean(2).to(torch.float32)

    def _of_classes(self, ids_BHW: Tensor) -> Tensor:
        if self.kind == "segmentation":
            return ids_BHW
        class_c = torch.arange(len(self.modality.class_codes), device=ids_BHW.device)
        count_Bc = (ids_BHW.flatten(1)[:, :, None] == class_c).sum(1)
        known_B = count_Bc.sum(1)
        if self.kind == "classification":
            # The lowest of equals: argmax itself guarantees no winner.
            best_B = (count_Bc * len(class_c) - class_c).argmax(1)
            return torch.where(known_B > 0, best_B, UNKNOWN)
        present_Bc = (count_Bc / known_B.clamp(min=1)[:, None] >= self.least_share).to(torch.float32)
        return torch.where(known_B[:, None] > 0, present_Bc, torch.nan)


@dataclass(frozen=True, eq=False)
class VectorLabels:
    """A dataset with a few numbers a tile: a class as one-hot numbers or as a code, several classes, or numbers.

    Attributes:
        codes_K: the codes of the classes, ascending: places in the vector, or its only number.
    """

    dataset: str
    kind: TaskKind
    length: int
    codes_K: tuple[int, ...] = ()

    @property
    def datasets(self) -> tuple[str, ...]:
        return (self.dataset,)

    @property
    def names(self) -> tuple[str, ...]:
        if self.kind == "classification":
            return tuple(f"{self.dataset} {code}" for code in self.codes_K)
        return tuple(f"{self.dataset} {place}" for place in range(self.length))

    @property
    def codes(self) -> tuple[int, ...] | None:
        return self.codes_K or None

    @property
    def units(self) -> tuple[str, ...]:
        return ("",) * self.length if self.kind == "regression" else ()

    def labels(self, batch: Batch, index_Bhw: Tensor) -> Tensor:
        vector_BV = batch.pixels[self.dataset].flatten(1)
        if self.kind == "classification":
            return _ids_of(class_codes(vector_BV), self.codes_K)
        numbers_BV = vector_BV.to(torch.float32)
        if self.kind == "regression":
            return torch.where(numbers_BV.isfinite(), numbers_BV, torch.nan)
        return torch.where(numbers_BV.isfinite(), (numbers_BV != 0).to(torch.float32), torch.nan)


def class_codes(vector_BV: Tensor) -> Tensor:
    """The code of each tile's class, int64 (B,): the place of the only 1, or the only number; `UNKNOWN` otherwise."""
    if vector_BV.shape[1] == 1:
        number_B = vector_BV[:, 0].to(torch.float64)
        whole_B = number_B.isfinite() & (number_B >= 0) & (number_B == number_B.round())
        return torch.where(whole_B, number_B.nan_to_num(0, 0, 0).to(torch.int64), UNKNOWN)
    hot_BV = vector_BV.to(torch.float64) == 1
    one_B = (hot_BV.sum(1) == 1) & ((vector_BV.to(torch.float64) == 0).sum(1) == vector_BV.shape[1] - 1)
    return torch.where(one_B, hot_BV.to(torch.uint8).argmax(1), UNKNOWN)


@dataclass(frozen=True, eq=False)
class RowLabels:
    """Labels of tiles by their source row, from a file.

    Attributes:
        row_N: int64, ascending.
        label_N: int64 (N,) of a classification, float32 (N, K) of the other kinds.
    """

    row_N: NDArray[np.int64]
    label_N: NDArray[Any]
    names: tuple[str, ...]
    kind: TaskKind

    @property
    def datasets(self) -> tuple[str, ...]:
        return ()

    @property
    def codes(self) -> tuple[int, ...] | None:
        return None

    @property
    def units(self) -> tuple[str, ...]:
        return ("",) * len(self.names) if self.kind == "regression" else ()

    def labels(self, batch: Batch, index_Bhw: Tensor) -> Tensor:
        rows, labels = (torch.from_numpy(array).to(batch.row_B.device) for array in (self.row_N, self.label_N))
        place_B = torch.searchsorted(rows, batch.row_B).clamp(max=len(rows) - 1)
        found_B = rows[place_B] == batch.row_B
        unknown = UNKNOWN if self.kind == "classification" else torch.nan
        return torch.where(found_B if labels.dim() == 1 else found_B[:, None], labels[place_B], unknown)


def known(labels: Tensor) -> Tensor:
    """Which labels are known, bool of the labels' shape."""
    return labels.isfinite() if labels.is_floating_point() else labels != UNKNOWN


def _ids_of(code_B: Tensor, codes: Sequence[int]) -> Tensor:
    """Class ids of codes; `UNKNOWN` for other codes."""
    known_K = torch.tensor(codes, dtype=torch.int64, device=code_B.device)
    place_B = torch.searchsorted(known_K, code_B).clamp(max=len(known_K) - 1)
    return torch.where(known_K[place_B] == code_B, place_B, UNKNOWN)
