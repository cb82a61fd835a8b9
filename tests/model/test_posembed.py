from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from mmae.model.posembed import PositionEmbedding, Resampling, base_positions, resample, sine_cosine


def reference(width: int, row: int, column: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """One place's channels, straight from the formula in float64."""
    omega = 10000.0 ** (-np.arange(width // 4) / (width / 4))
    return np.concatenate([np.sin(row * omega), np.cos(row * omega), np.sin(column * omega), np.cos(column * omega)])


@given(st.sampled_from([4, 8, 48, 768]), st.integers(1, 28), st.data())
def test_channels_follow_the_formula(width: int, side: int, data: st.DataObject) -> None:
    row, column = data.draw(st.integers(0, side - 1)), data.draw(st.integers(0, side - 1))
    table = sine_cosine(width, side)
    assert table.shape == (width, side, side)
    assert table.dtype == torch.float32
    np.testing.assert_allclose(table[:, row, column], reference(width, row, column), atol=2e-6)


@pytest.mark.parametrize(("patch_size", "side"), [(8, 28), (16, 14), (224, 1), (448, 1)])
def test_the_base_grid_is_that_of_a_224_px_image(patch_size: int, side: int) -> None:
    assert base_positions(8, patch_size).shape == (8, side, side)


@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
@pytest.mark.parametrize("grid_hw", [(7, 7), (3, 5), (1, 1), (40, 2)])
def test_resampling_is_torchs_and_row_major(mode: Resampling, grid_hw: tuple[int, int]) -> None:
    base = base_positions(8, 8)
    expected = functional.interpolate(base[None], size=grid_hw, mode=mode, align_corners=False)[0]
    table_nd = resample(base, grid_hw, mode)
    assert table_nd.shape == (grid_hw[0] * grid_hw[1], 8)
    for row in range(grid_hw[0]):
        for column in range(grid_hw[1]):
            assert torch.equal(table_nd[row * grid_hw[1] + column], expected[:, row, column])


@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
def test_the_base_grid_itself_is_not_changed(mode: Resampling) -> None:
    base = base_positions(8, 8)
    assert torch.equal(resample(base, (28, 28), mode), base.flatten(1).T)


def test_half_precision_and_back_loses_nothing() -> None:
    positions = PositionEmbedding(16, 8, (3, 5), "bicubic")
    before = positions(torch.float32).clone()
    outer = torch.nn.Sequential(positions).to(torch.bfloat16)
    assert positions(torch.bfloat16).dtype == torch.bfloat16
    assert torch.equal(positions(torch.float32), before)
    outer.float()
    assert torch.equal(positions(torch.float32), before)


def test_nothing_is_learned_or_saved() -> None:
    positions = PositionEmbedding(16, 8, (3, 5), "bilinear")
    assert not list(positions.parameters())
    assert not positions.state_dict()


def test_built_on_the_meta_device_it_still_holds_numbers() -> None:
    with torch.device("meta"):
        positions = PositionEmbedding(16, 8, (3, 5), "bilinear")
    assert torch.equal(positions(torch.float32), PositionEmbedding(16, 8, (3, 5), "bilinear")(torch.float32))
