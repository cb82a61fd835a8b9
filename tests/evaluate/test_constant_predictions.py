"""Predictions that look at nothing, against plain means and frequencies."""

from __future__ import annotations

import math

import pytest
import torch

from mmae.config.schema import ModelConfig
from mmae.evaluate.constant_predictions import constant_output, fit
from mmae.types import Inputs

CONFIG = ModelConfig(in_domains=("rgb", "depth"), out_domains=("rgb", "semseg"), input_size=16, num_encoded_tokens=3)


def inputs(seed: int, tiles: int = 2) -> Inputs:
    """Optical values with gaps, and a label map with pixels of no class."""
    draw = torch.Generator().manual_seed(seed)
    valid = torch.rand(tiles, 3, 16, 16, generator=draw) < 0.7
    values = torch.randn(tiles, 3, 16, 16, generator=draw) * valid
    classes = torch.randint(0, 3, (tiles, 16, 16), generator=draw)
    labelled = torch.rand(tiles, 16, 16, generator=draw) < 0.5
    return Inputs(
        values={"rgb": values, "semseg": classes},
        valid={"rgb": valid, "semseg": labelled},
        token_valid={},
        key_B=torch.zeros(tiles, dtype=torch.int64),
        real_B=torch.ones(tiles, dtype=torch.bool),
    )


TILES = [inputs(seed) for seed in range(3)]


def test_the_mean_of_each_channel_over_its_data() -> None:
    found = fit(TILES, ["rgb"])["rgb"]
    assert found.dtype == torch.float32
    for channel in range(3):
        seen = torch.cat([each.values["rgb"][:, channel][each.valid["rgb"][:, channel]] for each in TILES])
        assert float(found[channel]) == pytest.approx(float(seen.mean()), rel=1e-5)


def test_the_frequency_of_each_class_over_labelled_pixels() -> None:
    found = fit(TILES, ["semseg"])["semseg"]
    seen = torch.cat([each.values["semseg"][each.valid["semseg"]] for each in TILES])
    assert found[:3].exp().tolist() == pytest.approx([float((seen == code).float().mean()) for code in range(3)])
    # A class that never occurred has a loss that is finite.
    assert found[3:].tolist() == pytest.approx([math.log(1e-9)] * (len(found) - 3))


def test_a_normalised_patch_has_mean_zero() -> None:
    assert fit(TILES, ["norm_rgb"])["norm_rgb"].tolist() == [0.0] * 3


def test_the_constants_fill_every_pixel_of_every_tile() -> None:
    constants = {"rgb": torch.tensor([1.0, 2.0, 3.0]), "semseg": torch.zeros(9)}
    found = constant_output(constants, TILES[0], CONFIG).patches
    side = {name: patches.shape[-1] for name, patches in found.items()}
    assert found["rgb"].shape == (2, CONFIG.tokens_per_modality, 3, side["rgb"], side["rgb"])
    assert found["semseg"].shape == (2, CONFIG.tokens_per_modality, 9, side["semseg"], side["semseg"])
    assert torch.equal(found["rgb"].amin((0, 1, 3, 4)), constants["rgb"])
    assert torch.equal(found["rgb"].amax((0, 1, 3, 4)), constants["rgb"])
