"""Crop and symmetries as an index, against numpy's slicing, flips and turns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmae.data.transforms.crop import Flip, centre_corners, gather_pixels, random_corners, random_flips, source_index
from mmae.draws import tile_keys


def keys(count: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(tile_keys(seed, 0, np.arange(count)))


def symmetric(window_hw: np.ndarray, symmetry: int) -> np.ndarray:
    if symmetry & 1:
        window_hw = np.fliplr(window_hw)
    if symmetry & 2:
        window_hw = np.flipud(window_hw)
    return window_hw.T if symmetry & 4 else window_hw


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 4), st.integers(0, 4), st.integers(0, 7))
def test_the_index_is_slicing_and_flipping(height: int, width: int, top: int, left: int, symmetry: int) -> None:
    if height != width:
        symmetry %= 4
    tile = np.arange((height + 4) * (width + 4), dtype=np.int16).reshape(height + 4, width + 4)
    index = source_index(
        torch.tensor([top]), torch.tensor([left]), torch.tensor([symmetry]), (height, width), width + 4
    )
    expected = symmetric(tile[top : top + height, left : left + width], symmetry)
    np.testing.assert_array_equal(tile.reshape(-1)[index[0].numpy()], expected)


def test_the_eight_symmetries_are_all_flips_and_quarter_turns() -> None:
    tile = np.arange(9).reshape(3, 3)
    zero = torch.zeros(8, dtype=torch.int64)
    ours = {bytes(index.numpy()) for index in source_index(zero, zero, torch.arange(8), (3, 3), 3)}
    turned = {bytes(np.ascontiguousarray(np.rot90(t, k))) for t in (tile, np.fliplr(tile)) for k in range(4)}
    assert ours == turned
    assert len(ours) == 8


@pytest.mark.parametrize(("tile", "window"), [((7, 7), (7, 7)), ((9, 8), (4, 8)), ((64, 64), (56, 56))])
def test_random_windows_reach_every_place_and_no_further(tile: tuple[int, int], window: tuple[int, int]) -> None:
    corners_2B = torch.stack(random_corners(keys(3000), tile, window))
    for corner_B, room in zip(corners_2B, (tile[0] - window[0], tile[1] - window[1]), strict=True):
        assert set(corner_B.tolist()) == set(range(room + 1))


def test_row_and_column_are_drawn_apart() -> None:
    top_B, left_B = random_corners(keys(3000), (64, 64), (56, 56))
    assert len(set(zip(top_B.tolist(), left_B.tolist(), strict=True))) == 81


def test_the_middle_of_odd_and_even_room() -> None:
    top_B, left_B = centre_corners(keys(2), (64, 9), (56, 8))
    assert (top_B.tolist(), left_B.tolist()) == ([4, 4], [0, 0])


@pytest.mark.parametrize(
    ("flip", "turns", "count"),
    [("none", True, 1), ("horizontal", True, 2), ("dihedral", True, 8), ("dihedral", False, 4)],
)
def test_symmetries_are_drawn_evenly(flip: Flip, turns: bool, count: int) -> None:
    drawn = torch.bincount(random_flips(keys(8000), flip, turns), minlength=8)
    assert (drawn[count:] == 0).all()
    assert ((drawn[:count] - 8000 / count).abs() < 5 * (8000 / count) ** 0.5).all()


@pytest.mark.parametrize("dtype", [torch.uint16, torch.int16, torch.uint8, torch.int8, torch.float32])
def test_gathered_bands_keep_their_bits(dtype: torch.dtype) -> None:
    stored = torch.randint(0, 100, (2, 5, 4, 4)).to(dtype)
    index = torch.arange(16).view(1, 4, 4).expand(2, 4, 4)
    picked = gather_pixels(stored, torch.tensor([3, 0]), index)
    np.testing.assert_array_equal(picked.view(dtype).numpy(), stored.numpy()[:, [3, 0]])
