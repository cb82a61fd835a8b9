"""Pixels as colours."""

from __future__ import annotations

import numpy as np
import pytest

from mmae.evaluate.pictures.colours import (
    HIDDEN_COLOUR,
    LEGENDS,
    NO_DATA_COLOUR,
    Stretch,
    colour_classes,
    error_grey,
    hide,
)
from mmae.modalities import MODALITIES


@pytest.mark.parametrize("name", LEGENDS)
def test_every_class_has_a_colour_of_its_own(name: str) -> None:
    modality = MODALITIES[name]
    colours = colour_classes(np.arange(modality.num_classes)[None], modality)[0]
    assert len({tuple(colour) for colour in colours.tolist()}) == modality.num_classes
    assert tuple(colours[modality.no_data_class]) == NO_DATA_COLOUR


def test_worldcover_colours_are_those_of_its_legend() -> None:
    semseg = MODALITIES["semseg"]
    water, trees = semseg.class_codes.index(80), semseg.class_codes.index(10)
    assert colour_classes(np.array([[water, trees]]), semseg).tolist() == [[[0, 100, 200], [0, 100, 0]]]


def test_a_stretch_is_per_band_and_ignores_what_is_no_data() -> None:
    values = np.stack([np.linspace(0, 1, 100), np.linspace(100, 200, 100)]).reshape(2, 10, 10).astype(np.float32)
    valid = np.ones_like(values, dtype=bool)
    values[:, 0, 0], valid[:, 0, 0] = 1e9, False
    stretch = Stretch.of(values, valid)
    picture = stretch.colour(values, valid)
    assert tuple(picture[0, 0]) == NO_DATA_COLOUR
    assert tuple(picture[9, 9]) == (255, 255, 255)
    assert tuple(picture[0, 1]) == (0, 0, 0)
    assert np.abs(picture[..., 0].astype(int) - picture[..., 1])[valid[0]].max() <= 1


@pytest.mark.parametrize("bands", [1, 2, 3, 8])
def test_any_number_of_bands_and_nothing_valid_at_all(bands: int) -> None:
    values = np.zeros((bands, 4, 6), dtype=np.float32)
    valid = np.zeros_like(values, dtype=bool)
    picture = Stretch.of(values, valid).colour(values, valid)
    assert picture.shape == (4, 6, 3)
    assert (picture == NO_DATA_COLOUR).all()


def test_hidden_patches_are_grey_and_visible_ones_untouched() -> None:
    picture = np.full((4, 6, 3), 7, dtype=np.uint8)
    hidden = np.array([[True, False, False], [False, False, True]])
    shown = hide(picture, hidden)
    assert (shown[:2, :2] == HIDDEN_COLOUR).all()
    assert (shown[2:, 4:] == HIDDEN_COLOUR).all()
    assert (shown[:2, 2:] == 7).all()


def test_errors_grow_darker_and_what_is_no_data_has_no_error() -> None:
    errors = np.linspace(0, 1, 100, dtype=np.float32).reshape(10, 10)
    has_data = np.ones((10, 10), dtype=bool)
    has_data[9, 9] = False
    grey = error_grey(errors, has_data)
    assert (np.diff(grey[..., 0].ravel()[:-1].astype(int)) <= 0).all()
    assert tuple(grey[0, 0]) == (255, 255, 255)
    assert tuple(grey[9, 9]) == NO_DATA_COLOUR
    assert (error_grey(errors, np.zeros_like(has_data)) == NO_DATA_COLOUR).all()
