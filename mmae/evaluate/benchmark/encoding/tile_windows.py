"""Tiles of any size as windows that an encoder was trained for: cut on a grid, and their maps put together again.

Shape suffixes: B tiles, S windows of all tiles, h w patches of a window, R K patches of a tile's grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmae.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

_LARGEST: Final = 2
"""Sides of a window over the side that the model was trained on: positions beyond were never near those of training."""


@dataclass(frozen=True)
class WindowGrid:
    """How tiles of one size are cut.

    Attributes:
        tile_hw: pixels of a tile.
        window_hw: pixels of a window, multiples of the patch.
        count: windows along each side; together they cover the tile, and what is beyond it is no data.
        patch: pixels of a patch's side.
    """

    tile_hw: tuple[int, int]
    window_hw: tuple[int, int]
    count: tuple[int, int]
    patch: int

    @property
    def windows(self) -> int:
        """Windows of one tile."""
        return self.count[0] * self.count[1]

    def cut(self, array_BCHW: NDArray[Any]) -> NDArray[Any]:
        """(S, C, h, w): the windows of all tiles, tile after tile, row after row.

        Arrays of integers hold codes of classes, of which 0 is no data.

        Raises:
            InputError: the tiles have another size.
        """
        if array_BCHW.shape[2:] != self.tile_hw:
            found, usual = ("x".join(map(str, side)) for side in (array_BCHW.shape[2:], self.tile_hw))
            raise InputError(
                f"a tile of {found} pixels is among tiles of {usual}: the suite is not whole: download it again"
            )
        (height, width), (rows, columns) = self.window_hw, self.count
        beyond = (rows * height - array_BCHW.shape[2], columns * width - array_BCHW.shape[3])
        fill = 0 if array_BCHW.dtype.kind in "iu" else np.nan
        padded = np.pad(array_BCHW, ((0, 0), (0, 0), (0, beyond[0]), (0, beyond[1])), constant_values=fill)
        count, bands = padded.shape[:2]
        parts = padded.reshape(count, bands, rows, height, columns, width)
        return np.ascontiguousarray(parts.transpose(0, 2, 4, 1, 3, 5)).reshape(-1, bands, height, width)

    def joined(self, maps_SD: Tensor) -> Tensor:
        """Maps of windows (S, D, h, w) as maps of whole tiles (B, D, R, K)."""
        rows, columns = self.count
        _, width, high, wide = maps_SD.shape
        parts = maps_SD.reshape(-1, rows, columns, width, high, wide)
        return parts.permute(0, 3, 1, 4, 2, 5).reshape(-1, width, rows * high, columns * wide)


def window_grid(
    tile_hw: tuple[int, int], trained_hw: tuple[int, int], patch: int, asked: int | None = None
) -> WindowGrid:
    """The grid of windows for tiles of a size.

    A tile is one window if its sides are at most twice those that the model was trained on; otherwise it is cut into
    as few equal windows as that allows.

    Args:
        asked: pixels of a window's side, if the user says them.

    Raises:
        InputError: they are no multiple of the patch.
    """
    if asked is not None and (asked < patch or asked % patch):
        raise InputError(f"--window {asked}: must be a multiple of the model's patch of {patch} pixels")
    sides, counts = [], []
    for side, trained in zip(tile_hw, trained_hw, strict=True):
        count = -(-side // (asked or _LARGEST * trained))
        sides.append(asked if asked is not None else -(-side // (count * patch)) * patch)
        counts.append(count)
    return WindowGrid((tile_hw[0], tile_hw[1]), (sides[0], sides[1]), (counts[0], counts[1]), patch)
