"""The picture of a tile without matplotlib: a plain grid of small images, drawn with Pillow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from mmae.evaluate.pictures.colours import Stretch, colour_classes, error_grey, hide
from mmae.evaluate.pictures.tile_rows import TileRow

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

COLUMNS: Final = ("input", "visible", "prediction", "target", "error")
GAP: Final = 12
"""Pixels between the pictures of two tiles."""
_TEXT: Final = 12


def draw_plain(rows: Sequence[TileRow]) -> Image:
    """One row for each output: input, visible part, prediction, target, and error (white is none)."""
    return grid([(row.output, _cells(row)) for row in rows], COLUMNS)


def _cells(row: TileRow) -> list[NDArray[np.uint8]]:
    if row.modality.categorical:
        whole, guess = (colour_classes(ids, row.modality) for ids in (row.target, row.predicted))
        error = error_grey(row.errors(), row.has_data)
    else:
        stretch = Stretch.of(row.target, row.valid)
        whole = stretch.colour(row.target, row.valid)
        guess = stretch.colour(row.predicted, np.ones_like(row.valid))
        error = error_grey(np.where(row.valid, row.errors(), 0).max(0), row.has_data)
    nothing = hide(whole, np.ones((1, 1), dtype=bool))
    if row.visible is None:
        return [nothing, nothing, guess, whole, error]
    return [whole, hide(whole, ~row.visible), guess, whole, error]


def grid(rows: Sequence[tuple[str, Sequence[NDArray[np.uint8]]]], columns: Sequence[str], side: int = 168) -> Image:
    """A labelled grid: a row for each modality, a column for each kind of picture, enlarged without smoothing."""
    from PIL import Image, ImageDraw, ImageFont

    gap, left, top = 4, 76, 20
    font = ImageFont.load_default(_TEXT)
    canvas = Image.new("RGB", (left + len(columns) * (side + gap), top + len(rows) * (side + gap)), "white")
    draw = ImageDraw.Draw(canvas)
    for column, title in enumerate(columns):
        draw.text((left + column * (side + gap), 2), title, fill="black", font=font)
    for row, (name, cells) in enumerate(rows):
        y = top + row * (side + gap)
        draw.text((4, y + side // 2), name, fill="black", font=font)
        for column, cell in enumerate(cells):
            enlarged = Image.fromarray(cell).resize((side, side), Image.Resampling.NEAREST)
            canvas.paste(enlarged, (left + column * (side + gap), y))
    return canvas


def side_by_side(pictures: Sequence[Image]) -> Image:
    """One image from at least one."""
    from PIL import Image

    width = sum(picture.width for picture in pictures) + GAP * (len(pictures) - 1)
    canvas = Image.new("RGB", (width, max(picture.height for picture in pictures)), "white")
    left = 0
    for picture in pictures:
        canvas.paste(picture, (left, 0))
        left += picture.width + GAP
    return canvas
