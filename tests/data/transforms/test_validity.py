"""What counts as data, value by value and token by token."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmae.data.transforms.validity import is_data, token_valid, widen
from mmae.modalities import MODALITIES


def test_uint16_above_32767_survives() -> None:
    stored = torch.tensor([0, 1, 32767, 32768, 65535], dtype=torch.int32).to(torch.uint16)
    assert widen(stored.view(torch.int16), unsigned=True).tolist() == [0, 1, 32767, 32768, 65535]


def test_signed_integers_keep_their_sign() -> None:
    assert widen(torch.tensor([-400, 8848], dtype=torch.int16), unsigned=False).tolist() == [-400, 8848]


@pytest.mark.parametrize(
    ("name", "dtype", "stored", "data"),
    [
        ("rgb", torch.int32, [0, 1, 65535], [False, True, True]),
        ("canopy_height", torch.int8, [-1, 0, 126, 127], [True, True, True, False]),
        ("semseg", torch.uint8, [0, 10, 255], [False, True, False]),
        ("depth", torch.int16, [-400, 0, 8848], [True, True, True]),
        ("sentinel1", torch.float32, [-np.inf, np.inf, np.nan, -50.0, 0.0], [False, False, False, True, True]),
    ],
)
def test_the_table_says_what_is_data(name: str, dtype: torch.dtype, stored: list[float], data: list[bool]) -> None:
    wide = widen(torch.tensor(stored).to(dtype), unsigned=False)
    assert is_data(wide, MODALITIES[name].no_data).tolist() == data


@pytest.mark.parametrize("shape", [(2, 3, 6, 4), (2, 6, 4), (1, 1, 2, 2)])
def test_a_token_is_data_if_any_value_of_its_patch_is(shape: tuple[int, ...]) -> None:
    valid = np.random.default_rng(1).random(shape) < 0.15
    ours = token_valid(torch.from_numpy(valid), patch=2)
    rows, columns = shape[-2] // 2, shape[-1] // 2
    for tile in range(shape[0]):
        for n, (i, j) in enumerate(np.ndindex(rows, columns)):
            patch = valid[tile, ..., 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
            assert ours[tile, n].item() == patch.any()
    assert ours.shape == (shape[0], rows * columns)
