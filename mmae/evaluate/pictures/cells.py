"""The small pictures of a tile's row: values and classes in colours, stripes for no data, and errors.

Everything can be read in grey: single bands and errors grow monotonically darker or lighter, no data is striped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmae.evaluate.pictures.colours import Stretch, colour_classes
from mmae.evaluate.pictures.tile_rows import TileRow
from mmae.modalities import Modality

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SIDE: Final = 336
"""About the pixels a side of a cell."""
_STRIPE: Final = 12
_HIDDEN: Final = np.array([226, 226, 226], dtype=np.uint8)
_LINE: Final = np.array([255, 255, 255], dtype=np.uint8)
_INK: Final = np.array([110, 0, 110], dtype=np.uint8)
_VALUES: Final = "cividis"
_ERRORS: Final = "magma_r"


@dataclass(frozen=True, eq=False)
class Ramp:
    """How the values of a row become colours.

    Attributes:
        bands: one band is drawn in a scale of colours, two as red and cyan, three as red, green and blue.
        stretch: the range of each of these bands.
    """

    bands: tuple[int, ...]
    stretch: Stretch

    @classmethod
    def of(cls, row: TileRow) -> Ramp:
        """From the target: its first three bands with data, each from its 2nd to its 98th percentile."""
        with_data = np.flatnonzero(row.valid.any((1, 2))).tolist()
        bands = tuple(with_data[:3]) or tuple(range(min(3, len(row.target))))
        return cls(bands, Stretch.of(row.target[list(bands)], row.valid[list(bands)]))

    @property
    def names(self) -> tuple[str, ...]:
        """The colour of each band."""
        return {1: ("",), 2: ("red", "cyan"), 3: ("red", "green", "blue")}[len(self.bands)]


def value_cell(values_Chw: NDArray[np.float32], ramp: Ramp, has_data_hw: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Values in the colours of a ramp, uint8 (side, side, 3), striped where there is no data."""
    chosen = values_Chw[list(ramp.bands)]
    picture = ramp.stretch.colour(chosen, np.ones_like(chosen, dtype=bool))
    if len(ramp.bands) == 1:
        picture = _colours(_VALUES, picture[..., 0] / 255)
    return striped(picture, has_data_hw)


def class_cell(ids_hw: NDArray[np.int64], modality: Modality, has_data_hw: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Classes in their legend's colours."""
    return striped(colour_classes(ids_hw, modality), has_data_hw)


def error_cell(row: TileRow, most: float) -> NDArray[np.uint8]:
    """Absolute errors of scored pixels (mean over bands with data); others are dotted.

    Args:
        most: the error that is darkest.
    """
    errors = row.errors()
    if not row.modality.categorical:
        errors = np.where(row.valid, errors, 0).sum(0) / np.maximum(row.valid.sum(0), 1)
    cell = striped(_colours(_ERRORS, np.clip(errors / most, 0, 1)), row.has_data)
    unscored = _enlarged(row.has_data & ~row.scored)
    return np.where(unscored[..., None], _dots(unscored.shape), cell)


def hide_patches(cell: NDArray[np.uint8], visible: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """A cell with the patches greyed that the model does not see; `visible` has one entry a patch."""
    rows, columns = visible.shape
    height, width = cell.shape[0] // rows, cell.shape[1] // columns
    hidden = np.kron(~visible, np.ones((height, width), dtype=bool)).astype(bool)
    patch = np.full((height, width, 3), _HIDDEN)
    patch[:1], patch[:, :1] = _LINE, _LINE
    return np.where(hidden[..., None], np.tile(patch, (rows, columns, 1)), cell)


def striped(picture_hw3: NDArray[np.uint8], has_data_hw: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """A picture enlarged by a whole number, with stripes where there is no data."""
    large, data = _enlarged(picture_hw3), _enlarged(has_data_hw)
    y, x = np.indices(data.shape)
    stripes = np.where(np.less((x + y) % _STRIPE, _STRIPE // 3)[..., None], _INK, _LINE)
    return np.where(data[..., None], large, stripes).astype(np.uint8)


def no_data_sample(height: int, width: int) -> NDArray[np.uint8]:
    """What no data looks like."""
    return striped(np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1), dtype=bool))[:height, :width]


def hidden_sample(height: int, width: int) -> NDArray[np.uint8]:
    """What a hidden patch looks like."""
    return hide_patches(np.zeros((height, width, 3), np.uint8), np.zeros((1, 1), dtype=bool))


def unscored_sample(height: int, width: int) -> NDArray[np.uint8]:
    """What pixels look like that are in no loss."""
    return _dots((height, width))


def values_bar() -> NDArray[np.uint8]:
    """The colours of single bands, from high to low, uint8 (64, 1, 3)."""
    return _colours(_VALUES, np.linspace(1, 0, 64)[:, None])


def errors_bar() -> NDArray[np.uint8]:
    """The colours of errors, from high to low, uint8 (64, 1, 3)."""
    return _colours(_ERRORS, np.linspace(1, 0, 64)[:, None])


def class_marks(ids_hw: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """A place deep inside the largest area of each class: (class, row, column). In grey, numbers tell classes apart."""
    marks = []
    for each in np.unique(ids_hw).tolist():
        inside, deepest = ids_hw == each, np.argwhere(ids_hw == each)[0]
        while inside.any():
            deepest = np.argwhere(inside)[len(np.argwhere(inside)) // 2]
            padded = np.pad(inside, 1)
            inside = inside & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        marks.append((each, int(deepest[0]), int(deepest[1])))
    return marks


def _dots(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    y, x = np.indices(shape)
    dot = ((x // 2) % 6 == 2) & ((y // 2) % 6 == 2)
    return np.where(dot[..., None], np.uint8(150), np.uint8(245)).repeat(3, axis=-1).astype(np.uint8)


def _colours(ramp: str, share: NDArray[Any]) -> NDArray[np.uint8]:
    """Shares of 0 to 1 (h, w) in matplotlib's colours, uint8 (h, w, 3)."""
    import matplotlib

    colours: NDArray[np.uint8] = matplotlib.colormaps[ramp](share, bytes=True)[..., :3]
    return colours


def _enlarged(picture: NDArray[Any]) -> NDArray[Any]:
    times = max(1, _SIDE // picture.shape[0])
    return picture.repeat(times, axis=0).repeat(times, axis=1)
