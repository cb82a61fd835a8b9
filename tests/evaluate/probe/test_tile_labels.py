from __future__ import annotations

import numpy as np
import torch

from mmae.evaluate.probe.tile_labels import labels_of, month_of


def test_land_cover_is_cut_into_the_label_pixels_of_each_patch() -> None:
    codes = torch.full((1, 1, 16, 16), 10, dtype=torch.uint8)
    codes[0, 0, :4, 4:8] = 100
    codes[0, 0, 8:12, :4] = 0
    found = labels_of("semseg", {"esa_worldcover": codes}, patch_size=8)
    assert found.shape == (1, 2, 2, 4)
    np.testing.assert_array_equal(found[0, 0, 0], [0, 10, 0, 0])
    np.testing.assert_array_equal(found[0, 1, 0], [-1, 0, 0, 0])


def test_a_patch_smaller_than_a_label_pixel_has_labels_at_full_resolution() -> None:
    codes = torch.full((1, 1, 4, 4), 20, dtype=torch.uint8)
    found = labels_of("semseg", {"esa_worldcover": codes}, patch_size=2)
    assert found.shape == (1, 2, 2, 4)
    assert (found == 1).all()


def test_heights_are_means_over_pixels_with_data() -> None:
    pixels = torch.zeros(3, 2, 4, 4, dtype=torch.int8)
    pixels[:, 0] = 10
    pixels[1, 0, :2] = 127
    pixels[2, 0, :3] = 127
    found = labels_of("canopy_height", {"canopy_height_eth": pixels}, patch_size=2)
    np.testing.assert_array_equal(found, np.array([10, 10, np.nan], np.float32))


def test_months_lie_on_a_circle_and_an_unknown_date_has_none() -> None:
    found = month_of(np.array([20200131, 20210401, 19991231, 0], np.int32))
    np.testing.assert_allclose(found[:2], [[0, 1], [1, 0]], atol=1e-6)
    assert np.linalg.norm(found[2] - found[0]) < 0.6
    assert np.isnan(found[3]).all()
