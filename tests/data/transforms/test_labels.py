"""Class codes, and how a label map comes to its stride, against a loop over blocks."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmae.data.transforms.labels import class_ids, class_table, reduce_labels
from mmae.modalities import MODALITIES

CPU = torch.device("cpu")
SEMSEG = MODALITIES["semseg"]


def test_every_worldcover_class_has_its_id_and_nothing_else_has_one() -> None:
    codes = torch.arange(-300, 70_000).view(1, 1, -1)
    ids = class_ids(codes, class_table(SEMSEG, CPU)).view(-1)
    for code, found in zip(codes.view(-1).tolist(), ids.tolist(), strict=True):
        expected = SEMSEG.class_codes.index(code) if code in SEMSEG.class_codes else SEMSEG.no_data_class
        assert found == expected, code


def test_tree_cover_and_no_data_stay_apart() -> None:
    ids = class_ids(torch.tensor([[[10, 0, 255]]]), class_table(SEMSEG, CPU))
    assert ids.tolist() == [[[0, 11, 11]]]


def test_dynamic_world_labels() -> None:
    table = class_table(MODALITIES["dynamic_world"], CPU)
    assert class_ids(torch.tensor([[[0, 1, 9, 10, 255]]]), table).tolist() == [[[9, 0, 8, 9, 9]]]


def reduced(ids_HW: np.ndarray, stride: int, reduction: str, no_data: int) -> np.ndarray:
    height, width = ids_HW.shape[0] // stride, ids_HW.shape[1] // stride
    out = np.empty((height, width), np.int64)
    for i, j in np.ndindex(height, width):
        block = ids_HW[i * stride : (i + 1) * stride, j * stride : (j + 1) * stride]
        votes = np.bincount(block[block != no_data], minlength=1)
        majority = votes.argmax() if votes.any() else no_data
        out[i, j] = block[stride // 2, stride // 2] if reduction == "nearest" else majority
    return out


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 5), st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(0, 2**31))
def test_reductions_equal_a_loop_over_blocks(stride: int, rows: int, columns: int, classes: int, seed: int) -> None:
    ids = np.random.default_rng(seed).integers(0, classes + 1, (2, rows * stride, columns * stride))
    for reduction in ("nearest", "majority"):
        ours = reduce_labels(torch.from_numpy(ids), stride, reduction, classes)
        expected = np.stack([reduced(tile, stride, reduction, classes) for tile in ids])
        np.testing.assert_array_equal(ours.numpy(), expected)
        assert ours.dtype == torch.int64


def test_one_valid_pixel_outvotes_no_data_and_ties_go_to_the_lowest_id() -> None:
    assert reduce_labels(torch.tensor([[[11, 11], [11, 4]]]), 2, "majority", 11).tolist() == [[[4]]]
    assert reduce_labels(torch.tensor([[[7, 2], [2, 7]]]), 2, "majority", 11).tolist() == [[[2]]]
    assert reduce_labels(torch.full((1, 2, 2), 11), 2, "majority", 11).tolist() == [[[11]]]
