"""Small pictures of values, classes and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mmae.evaluate.pictures.cells import Ramp, class_marks, error_cell, errors_bar, hide_patches, value_cell, values_bar
from mmae.evaluate.pictures.colours import Stretch
from tests.support.tile_rows import made_up_rows


def luminance(picture: NDArray[Any]) -> NDArray[Any]:
    weighted: NDArray[Any] = picture.astype(float) @ [0.2126, 0.7152, 0.0722]
    return weighted


def test_scales_can_be_read_in_grey() -> None:
    assert (np.diff(luminance(values_bar())[:, 0]) < 0).all()  # high values first, and bright
    assert (np.diff(luminance(errors_bar())[:, 0]) > 0).all()  # large errors first, and dark


@pytest.mark.parametrize("bands", [1, 2, 3])
def test_no_data_is_striped(bands: int) -> None:
    values = np.random.default_rng(0).random((bands, 8, 8), dtype=np.float32)
    ramp = Ramp(tuple(range(bands)), Stretch(np.zeros(bands, np.float32), np.ones(bands, np.float32)))
    has_data = np.ones((8, 8), dtype=bool)
    has_data[:4] = False
    cell = value_cell(values, ramp, has_data)
    assert cell.shape == (336, 336, 3)
    colours = np.unique(cell[:168].reshape(-1, 3), axis=0)
    assert len(colours) == 2
    assert abs(np.diff(luminance(colours))[0]) > 100
    along = cell[0, :, 0] == cell[0, 0, 0]
    assert 10 < np.abs(np.diff(along.astype(int))).sum() < 100


def test_a_ramp_takes_bands_with_data() -> None:
    row = next(row for row in made_up_rows() if row.output == "sentinel1")
    row.valid[[0, 2, 3, 4]] = False
    assert Ramp.of(row).bands == (1, 5, 6)
    row.valid[:] = False
    assert Ramp.of(row).bands == (0, 1, 2)
    row.valid[:] = True


def test_hidden_patches_are_plain_and_seen_ones_untouched() -> None:
    cell = np.full((336, 336, 3), 9, np.uint8)
    shown = hide_patches(cell, np.array([[True, False], [False, True]]))
    assert (shown[:168, :168] == 9).all()
    assert (shown[168:, 168:] == 9).all()
    assert (shown[:168, 168:] > 200).all()


def test_errors_are_drawn_where_they_are_scored() -> None:
    row = next(row for row in made_up_rows() if row.output == "depth")
    cell = error_cell(row, 1e9)
    lightest = errors_bar()[-1, 0]
    assert (cell[row.scored.repeat(10, 0).repeat(10, 1)] == lightest).all()
    assert not (cell[~row.scored.repeat(10, 0).repeat(10, 1)] == lightest).all()


def test_a_mark_lies_inside_its_class() -> None:
    ids = np.zeros((9, 9), np.int64)
    ids[3:8, 3:8], ids[0, 0] = 4, 7
    marks = {each: (row, column) for each, row, column in class_marks(ids)}
    assert marks.keys() == {0, 4, 7}
    assert all(ids[place] == each for each, place in marks.items())
    assert marks[4] == (5, 5)
