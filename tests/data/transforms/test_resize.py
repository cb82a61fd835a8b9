"""Resizing whole tiles equals torch's bilinear where all pixels have data, and mixes in no missing pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from mmae.data.transforms.resize import block_mean, resize_bilinear, resize_nearest

SIZES = [((64, 64), (56, 56)), ((64, 64), (32, 32)), ((8, 8), (8, 8)), ((8, 6), (16, 3)), ((1, 1), (4, 4))]


@pytest.mark.parametrize(("old", "new"), SIZES)
def test_complete_tiles_are_resized_as_torch_does(old: tuple[int, int], new: tuple[int, int]) -> None:
    values = torch.randn(2, 3, *old)
    ours, valid = resize_bilinear(values, torch.ones_like(values, dtype=torch.bool), new)
    assert valid.all()
    torch.testing.assert_close(ours, interpolate(values, new, mode="bilinear", align_corners=False), rtol=0, atol=0)


def sources(length: int, new: int, i: int) -> set[int]:
    """The pixels with a weight in pixel i of a bilinear resize along one axis."""
    place = max((i + 0.5) * length / new - 0.5, 0.0)
    first = int(place)
    return {first} | ({min(first + 1, length - 1)} if place > first else set())


@pytest.mark.parametrize(("old", "new"), SIZES)
def test_a_value_is_data_only_where_all_its_sources_are(old: tuple[int, int], new: tuple[int, int]) -> None:
    valid = np.random.default_rng(0).random((1, 1, *old)) < 0.8
    values = torch.where(torch.from_numpy(valid), 1.0, 0.0)
    ours, ours_valid = resize_bilinear(values, torch.from_numpy(valid), new)
    for i, j in np.ndindex(new):
        rows, columns = sources(old[0], new[0], i), sources(old[1], new[1], j)
        assert ours_valid[0, 0, i, j] == all(valid[0, 0, r, c] for r in rows for c in columns), (i, j)
    torch.testing.assert_close(ours, ours_valid.to(torch.float32))


@pytest.mark.parametrize(("old", "new"), SIZES)
def test_nearest_takes_the_pixel_under_the_centre(old: tuple[int, int], new: tuple[int, int]) -> None:
    index = torch.arange(old[0] * old[1]).view(1, *old)
    expected = interpolate(index[None].to(torch.float64), new, mode="nearest-exact")[0].to(torch.int64)
    torch.testing.assert_close(resize_nearest(index, new), expected)


def test_block_means_leave_out_missing_pixels() -> None:
    values = torch.tensor([[[[1.0, 3.0, 9.0, 9.0], [5.0, 7.0, 9.0, 9.0]]]])
    valid = torch.tensor([[[[True, True, False, False], [False, True, False, False]]]])
    mean, known = block_mean(values, valid, 2)
    torch.testing.assert_close(mean, torch.tensor([[[[11 / 3, 0.0]]]]))
    assert known.tolist() == [[[[True, False]]]]
