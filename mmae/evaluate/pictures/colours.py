"""Pixels of modalities as colours. Models and runs are not used here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from mmae.modalities import Modality

if TYPE_CHECKING:
    from numpy.typing import NDArray

NO_DATA_COLOUR: Final = (64, 0, 64)
HIDDEN_COLOUR: Final = (128, 128, 128)

LEGENDS: Final[dict[str, tuple[str, ...]]] = {
    # ESA WorldCover 2021 v200 product user manual, table of classes; order of the codes 10, 20, ... 100.
    "semseg": (
        "006400", "ffbb22", "ffff4c", "f096ff", "fa0000", "b4b4b4", "f0f0f0", "0064c8", "0096a0", "00cf75", "fae6a0",
    ),
    # Dynamic World (Brown et al., Scientific Data 2022), classes 0..8: water to snow and ice.
    "dynamic_world": (
        "419bdf", "397d49", "88b053", "7a87c6", "e49635", "dfc35a", "c4281b", "a59b8f", "b39fe1",
    ),
}  # fmt: skip


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[:2], 16), int(colour[2:4], 16), int(colour[4:], 16)


def colour_classes(ids_hw: NDArray[np.int64], modality: Modality) -> NDArray[np.uint8]:
    """Class ids (h, w) as uint8 colours (h, w, 3) of the product's own legend; the no-data class in its own colour."""
    palette = np.array([*map(_rgb, LEGENDS[modality.name]), NO_DATA_COLOUR], dtype=np.uint8)
    return palette[ids_hw]


@dataclass(frozen=True)
class Stretch:
    """Maps the values of each band to 0..255 linearly, the same way for every picture of one target.

    Attributes:
        low_C: value of each band that becomes 0.
        high_C: value of each band that becomes 255.
    """

    low_C: NDArray[np.float32]
    high_C: NDArray[np.float32]

    @classmethod
    def of(cls, values_Chw: NDArray[np.float32], valid_Chw: NDArray[np.bool_]) -> Stretch:
        """From the 2nd to the 98th percentile of each band's valid values; 0 to 1 where it has none."""
        bands = [values[valid] for values, valid in zip(values_Chw, valid_Chw, strict=True)]
        ends = [np.percentile(band, [2, 98]) if band.size else np.array([0.0, 1.0]) for band in bands]
        low_C, high_C = np.array(ends, dtype=np.float32).T
        return cls(low_C, np.maximum(high_C, low_C + 1e-6))

    def colour(self, values_Chw: NDArray[np.float32], valid_Chw: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """(C, h, w) as uint8 (h, w, 3): one band grey, two as red and cyan, of more the first three as RGB."""
        low_C11, high_C11 = self.low_C[:, None, None], self.high_C[:, None, None]
        scaled = np.clip((values_Chw - low_C11) / (high_C11 - low_C11), 0, 1) * 255
        bands = {1: (0, 0, 0), 2: (0, 1, 1)}.get(len(scaled), (0, 1, 2))
        picture = np.stack([scaled[band] for band in bands], axis=-1).astype(np.uint8)
        picture[~valid_Chw.any(0)] = NO_DATA_COLOUR
        return picture


def hide(picture_hw3: NDArray[np.uint8], hidden_grid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The picture with its hidden patches greyed; `hidden_grid` has one entry a patch."""
    height, width = picture_hw3.shape[0] // hidden_grid.shape[0], picture_hw3.shape[1] // hidden_grid.shape[1]
    hidden_hw = np.kron(hidden_grid, np.ones((height, width), dtype=bool)).astype(bool)
    return np.where(hidden_hw[..., None], np.array(HIDDEN_COLOUR, dtype=np.uint8), picture_hw3)


def error_grey(errors_hw: NDArray[np.float32], has_data_hw: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Absolute errors (h, w) as uint8 (h, w, 3): 0 is white, the 98th percentile and above black."""
    seen = errors_hw[has_data_hw]
    most = max(float(np.percentile(seen, 98)), 1e-12) if seen.size else 1.0
    grey_hw = (255 * (1 - np.clip(errors_hw / most, 0, 1))).astype(np.uint8)
    return np.where(has_data_hw[..., None], grey_hw[..., None], np.array(NO_DATA_COLOUR, dtype=np.uint8))
