"""Plain grids of small images."""

from __future__ import annotations

import numpy as np

from mmae.evaluate.pictures.plain_grid import COLUMNS, draw_plain, grid
from tests.support.tile_rows import made_up_rows


def test_a_grid_has_a_cell_for_every_picture() -> None:
    red = np.full((2, 2, 3), (255, 0, 0), dtype=np.uint8)
    image = grid([("a", [red, red]), ("b", [red, red])], ("one", "two"), side=10)
    pixels = np.asarray(image)
    assert (pixels == (255, 0, 0)).all(-1).sum() == 4 * 100


def test_every_output_has_a_row_and_every_kind_a_column() -> None:
    rows = made_up_rows()
    picture = draw_plain(rows)
    assert picture.size == (76 + len(COLUMNS) * 172, 20 + len(rows) * 172)
