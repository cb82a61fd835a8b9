"""Predictions and targets of a tile in real numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmae.evaluate.pictures.tile_rows import rows_of
from mmae.losses import patchify, sample_losses
from mmae.modalities import MODALITIES, NORM_RGB
from mmae.types import ModelOutput
from tests.support.tile_rows import CONFIG, case, made_up_rows, real_numbers


@pytest.mark.parametrize("tile", [0, 1])
def test_targets_are_the_stored_numbers(tile: int) -> None:
    batch, *_ = case()
    inner = slice(16, 48)  # the middle 32 of 64 pixels
    for row in made_up_rows(tile):
        if row.modality.categorical or row.output == NORM_RGB:
            continue
        stored = batch.pixels[row.modality.dataset][tile].numpy().astype(np.float64)
        expected = stored[list(row.modality.bands), inner, inner]
        if row.modality.dataset == "sentinel2":
            assert row.unit == "reflectance"
            expected = expected / 10_000
        else:
            assert row.unit == row.modality.units
        assert row.target[row.valid] == pytest.approx(expected[row.valid], rel=1e-4, abs=1e-6)


def test_a_perfect_prediction_has_no_error() -> None:
    _, _, inputs, plan, output = case()
    patches = dict(output.patches)
    for name in ("rgb", "depth", "sired", "sentinel1"):
        patches[name] = patchify(inputs.values[name], 8)
    patches["semseg"] = torch.nn.functional.one_hot(patchify(inputs.values["semseg"], 2), 12).movedim(-1, 2).float()
    rows = rows_of(0, CONFIG.model, inputs, plan, ModelOutput(patches, output.encoded_BLD), real_numbers(0))
    for row in rows:
        if row.output != NORM_RGB and row.scored.any():
            assert row.mean_error() == pytest.approx(0, abs=1e-4), row.output


def test_a_patch_gets_the_mean_and_contrast_of_its_valid_pixels_back() -> None:
    _, _, inputs, plan, output = case()
    target = patchify(inputs.values["rgb"], 8)
    valid = patchify(inputs.valid["rgb"], 8)
    axes = (2, 3, 4)
    count = valid.sum(axes, keepdim=True)
    mean = (target * valid).sum(axes, keepdim=True) / count.clamp(min=1)
    variance = (((target - mean) * valid) ** 2).sum(axes, keepdim=True) / (count - 1).clamp(min=1)
    perfect = (target - mean) / (variance + 1e-6).sqrt()
    rows = rows_of(
        0, CONFIG.model, inputs, plan, ModelOutput({**output.patches, NORM_RGB: perfect}, output.encoded_BLD)
    )
    (row,) = (each for each in rows if each.output == NORM_RGB)
    assert row.predicted[row.valid] == pytest.approx(row.target[row.valid], abs=1e-4)


def test_losses_are_those_of_training() -> None:
    _, _, inputs, plan, output = case()
    losses_OB = sample_losses(output, inputs, plan, CONFIG.model)
    rows = made_up_rows(1)
    assert [row.loss for row in rows] == pytest.approx(losses_OB[:, 1].tolist())


def test_an_output_that_is_no_input_is_scored_everywhere_and_others_where_they_are_hidden() -> None:
    for row in made_up_rows():
        if row.output == "sentinel1":
            assert row.visible is None
            assert row.scored.all()
        elif row.visible is not None:
            side = row.scored.shape[0] // row.visible.shape[0]
            assert not row.scored[np.kron(row.visible, np.ones((side, side))).astype(bool)].any()
            assert not row.scored[~row.has_data].any()


def test_without_statistics_numbers_stay_normalised() -> None:
    _, _, inputs, *_ = case()
    rows = {row.output: row for row in made_up_rows(real=False)}
    assert np.array_equal(rows["depth"].target, inputs.values["depth"][0].numpy())
    assert rows["depth"].unit == "standard deviations"


def test_of_classes_the_error_is_the_share_that_is_wrong() -> None:
    row = next(row for row in made_up_rows() if row.output == "semseg")
    wrong = (row.predicted != row.target)[row.scored]
    assert row.mean_error() == pytest.approx(wrong.mean())
    assert row.predicted.max() < MODALITIES["semseg"].no_data_class
