"""Tiles are cut into windows that an encoder was trained for, and put together again."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmae.errors import InputError
from mmae.evaluate.benchmark.encoding.tile_windows import window_grid


@pytest.mark.parametrize(
    ("tile", "trained", "asked", "window", "count"),
    [
        ((64, 64), (56, 56), None, (64, 64), (1, 1)),
        ((60, 60), (56, 56), None, (64, 64), (1, 1)),
        ((112, 112), (56, 56), None, (112, 112), (1, 1)),
        ((500, 500), (56, 56), None, (104, 104), (5, 5)),
        ((256, 120), (56, 56), None, (88, 64), (3, 2)),
        ((256, 256), (56, 56), 64, (64, 64), (4, 4)),
        ((32, 32), (128, 128), None, (32, 32), (1, 1)),
    ],
)
def test_windows_are_as_few_as_twice_the_trained_size_allows(
    tile: tuple[int, int], trained: tuple[int, int], asked: int | None, window: tuple[int, int], count: tuple[int, int]
) -> None:
    grid = window_grid(tile, trained, 8, asked)
    assert (grid.window_hw, grid.count) == (window, count)


def test_what_is_cut_is_put_together_again() -> None:
    grid = window_grid((20, 28), (8, 8), 4)
    images = np.arange(2 * 3 * 20 * 28, dtype=np.float32).reshape(2, 3, 20, 28)
    windows = grid.cut(images)
    assert windows.shape == (2 * grid.windows, 3, *grid.window_hw)
    joined = grid.joined(torch.from_numpy(windows)).numpy()
    assert np.array_equal(joined[..., :20, :28], images)
    beyond = np.ones(joined.shape, bool)
    beyond[..., :20, :28] = False
    assert np.isnan(joined[beyond]).all()


def test_codes_beyond_a_tile_are_no_data() -> None:
    grid = window_grid((6, 6), (8, 8), 4)
    windows = grid.cut(np.full((1, 1, 6, 6), 10))
    assert windows.shape == (1, 1, 8, 8)
    assert windows.dtype.kind == "i"
    assert (windows[..., 6:, :] == 0).all()


def test_windows_are_whole_patches() -> None:
    with pytest.raises(InputError, match="multiple of the model's patch of 8 pixels"):
        window_grid((64, 64), (56, 56), 8, 20)
