from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from mmae.config.schema import ModelConfig
from mmae.model.initialise import initialise
from mmae.model.posembed import (
    LearnedPositions,
    PositionEmbedding,
    Resampling,
    base_positions,
    first_positions,
    position_embedding,
    resample,
    sine_cosine,
)


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


def learned(mode: Resampling = "bilinear", stack: tuple[int, ...] = ()) -> LearnedPositions:
    positions = LearnedPositions(16, 8, (3, 5), mode, stack)
    initialise(positions, 0)
    return positions


@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
@pytest.mark.parametrize("stack", [(), (3,)])
def test_learned_positions_start_from_the_fixed_ones(mode: Resampling, stack: tuple[int, ...]) -> None:
    fixed = PositionEmbedding(16, 8, (3, 5), mode)
    seen = learned(mode, stack)(torch.float32)
    assert torch.equal(seen, fixed(torch.float32).expand(*stack, 15, 16))


def test_what_is_handed_out_is_a_copy_that_gradients_flow_through() -> None:
    positions = learned()
    seen = positions(torch.float32)
    seen.sum().backward()
    assert seen.data_ptr() != positions.table.data_ptr()
    assert positions.table.grad is not None
    assert (positions.table.grad == 1).all()


@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
@pytest.mark.parametrize("stack", [(), (3,)])
def test_another_grid_is_resampled_from_the_learned_one(mode: Resampling, stack: tuple[int, ...]) -> None:
    positions = learned(mode, stack)
    with torch.no_grad():
        positions.table.normal_(generator=torch.Generator().manual_seed(0))
    seen = positions(torch.float32, (6, 2))
    assert seen.shape == (*stack, 12, 16)
    for table_nd, seen_nd in zip(positions.table.view(-1, 15, 16), seen.view(-1, 12, 16), strict=True):
        grid = table_nd.T.view(1, 16, 3, 5)
        expected = functional.interpolate(grid, size=(6, 2), mode=mode, align_corners=False)
        torch.testing.assert_close(seen_nd, expected[0].flatten(1).T)
    assert torch.equal(positions(torch.float32, (3, 5)), positions.table)


def test_learned_positions_in_half_precision() -> None:
    positions = learned().to(torch.bfloat16)
    assert positions.table.dtype == torch.bfloat16
    for grid_hw in (None, (3, 5), (4, 4)):
        assert positions(torch.bfloat16, grid_hw).dtype == torch.bfloat16


def test_the_configuration_decides() -> None:
    for kind, expected in (("fixed", PositionEmbedding), ("learned", LearnedPositions)):
        config = ModelConfig(input_size=(24, 40), positions=kind)  # type: ignore[arg-type]
        positions = position_embedding(config, 16, "bilinear", (2,))
        assert type(positions) is expected
        first = first_positions(torch.nn.ModuleDict({"a": positions}))
        assert {name: tuple(tensor.shape) for name, tensor in first.items()} == (
            {"a.table": (2, 15, 16)} if kind == "learned" else {}
        )
