"""Blending against a plain sum over all windows of an array, written for this test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mmae.scenes.files.rasters import Raster, Unit, runs_of, units_of
from mmae.scenes.windows.scene_pass import Windows, finished_units
from mmae.scenes.windows.window_axis import WindowAxis
from mmae.types import Inputs

PATCH = 4


class Image:
    """A scene in memory, without data where it is 0."""

    def __init__(self, pixels_CHW: NDArray[np.float32]) -> None:
        self.pixels = pixels_CHW
        self.highest = 0

    def read(self, top: int, left: int, height: int, width: int) -> dict[str, NDArray[Any]]:
        self.highest = max(self.highest, height * width)
        found = np.zeros((len(self.pixels), height, width), np.float32)
        part = self.pixels[:, top : top + height, left : left + width]
        found[:, : part.shape[1], : part.shape[2]] = part
        return {"any": found}


class WindowMeans:
    """Says of each cell its own mean, and where its window lies in the image: what differs between windows."""

    rasters = (Raster("one", 1, 2, "float32", np.nan, ("a", "b")), Raster("two", 2, 1, "float32", np.nan, ("c",)))

    def __init__(self) -> None:
        self.most = 0

    def prepare(self, arrays: Mapping[str, NDArray[Any]]) -> Inputs:
        values = torch.from_numpy(arrays["any"])
        batch, _, height, width = values.shape
        valid = (values != 0).any(1)
        blocks = valid.view(batch, height // PATCH, PATCH, width // PATCH, PATCH)
        tokens = blocks.any(4).any(2).flatten(1)
        key, real = torch.zeros(batch, dtype=torch.int64), torch.ones(batch, dtype=torch.bool)
        return Inputs({"any": values}, {"any": valid}, {"any": tokens}, key, real)

    def run(self, inputs: Inputs) -> list[NDArray[np.float32]]:
        values = inputs.values["any"].numpy()
        self.most = max(self.most, len(values))
        assert inputs.token_valid["any"].any(1).all(), "a window without data"
        return [self.answers(values, 1), self.answers(values, 2)[..., :1]]

    @staticmethod
    def answers(values_BCHW: NDArray[np.float32], cells: int) -> NDArray[np.float32]:
        side = PATCH // cells
        batch, _, height, width = values_BCHW.shape
        blocks = values_BCHW[:, 0].reshape(batch, height // side, side, width // side, side)
        own = blocks.mean((2, 4))
        whole = np.broadcast_to(values_BCHW[:, 0].mean((1, 2))[:, None, None], own.shape)
        return np.stack([own, whole], -1).astype(np.float32)

    def finish(self, raster: Raster, sums_RCK: NDArray[np.float32], data_RC: NDArray[np.bool_]) -> NDArray[Any]:
        return np.where(data_RC, sums_RCK.transpose(2, 0, 1), np.nan)


class Nothing:
    def __init__(self) -> None:
        self.windows = 0

    def add(self, tiles: int, read: int) -> None:
        self.windows += tiles


def reference(image: Image, windows: Windows, cells: int, channel: int) -> NDArray[np.float64]:
    down, across = windows.down, windows.across
    total = np.zeros((down.length * cells, across.length * cells))
    for row, top in enumerate(down.starts):
        for column, left in enumerate(across.starts):
            pixels = image.read(top * PATCH, left * PATCH, down.window * PATCH, across.window * PATCH)["any"]
            answer = WindowMeans.answers(pixels[None], cells)[0, ..., channel]
            share = np.outer(down.weights(row, cells), across.weights(column, cells))
            part = total[top * cells :, left * cells :]
            part[: down.window * cells, : across.window * cells] += answer * share
    data = image.read(0, 0, down.length * PATCH, across.length * PATCH)["any"].any(0)
    full = data.reshape(down.length, PATCH, across.length, PATCH).any((1, 3))
    total[~full.repeat(cells, 0).repeat(cells, 1)] = np.nan
    return total


def joined(units: list[Unit], parts: Mapping[Unit, Mapping[str, NDArray[Any]]], raster: Raster) -> NDArray[Any]:
    rows, columns = max(unit.bottom for unit in units), max(unit.right for unit in units)
    whole = np.full((raster.channels, rows * raster.cells, columns * raster.cells), -1e9)
    for unit in units:
        down, across = (
            slice(a * raster.cells, b * raster.cells) for a, b in ((unit.top, unit.bottom), (unit.left, unit.right))
        )
        whole[:, down, across] = parts[unit][raster.name]
    return whole


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Image, Windows]:
    window = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    overlap = draw(st.integers(0, min(window) - 1))
    rows, columns = draw(st.integers(window[0], 80)), draw(st.integers(window[1], 20))
    ragged = draw(st.integers(0, PATCH - 1))
    pixels = np.random.default_rng(draw(st.integers(0, 99))).uniform(1, 2, (2, rows * PATCH - ragged, columns * PATCH))
    hole = draw(st.integers(0, rows)) * PATCH
    pixels[:, hole : hole + draw(st.integers(0, rows)) * PATCH, : draw(st.integers(0, columns)) * PATCH] = 0
    down, across = (WindowAxis(n, w, overlap) for n, w in zip((rows, columns), window, strict=True))
    return Image(pixels.astype(np.float32)), Windows(down, across, PATCH)


@settings(max_examples=30)
@given(scenes(), st.integers(1, 7), st.integers(1, 4), st.integers(3, 12))
def test_units_are_the_weighted_sum_over_all_windows(
    scene: tuple[Image, Windows], batch: int, parts: int, columns: int
) -> None:
    image, windows = scene
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmae.scenes.files.rasters._MOST_BYTES", 1)
        patch.setattr("mmae.scenes.files.rasters._LEAST_COLUMNS", columns)
        units = units_of(windows.down.length, windows.across.length, windows.down.window, 8)
    model = WindowMeans()
    found: dict[Unit, dict[str, NDArray[Any]]] = {}
    for run in runs_of(units, parts):
        found |= dict(finished_units(run, windows, model, image, batch, Nothing()))
    assert list(found) == units
    assert model.most <= batch
    for raster in WindowMeans.rasters:
        whole = joined(units, found, raster)
        for channel in range(raster.channels):
            expected = reference(image, windows, raster.cells, channel)
            np.testing.assert_allclose(whole[channel], expected, rtol=1e-5)


def test_a_scene_of_any_height_is_read_in_strips() -> None:
    image = Image(np.ones((1, 400 * PATCH, 6 * PATCH), np.float32))
    windows, counter = Windows(WindowAxis(400, 5, 2), WindowAxis(6, 5, 2), PATCH), Nothing()
    units = units_of(400, 6, 5, 8)
    assert len(units) == 13
    for _ in finished_units(units, windows, WindowMeans(), image, 16, counter):
        pass
    assert image.highest == 5 * PATCH * 6 * PATCH
    # No window is computed twice.
    assert counter.windows == len(windows.down.starts) * len(windows.across.starts)


def test_nothing_is_computed_where_there_is_no_data() -> None:
    image = Image(np.zeros((1, 20 * PATCH, 6 * PATCH), np.float32))
    windows, model, counter = Windows(WindowAxis(20, 5, 2), WindowAxis(6, 5, 2), PATCH), WindowMeans(), Nothing()
    ((_, rasters),) = finished_units(units_of(20, 6, 5, 8), windows, model, image, 16, counter)
    assert all(np.isnan(raster).all() for raster in rasters.values())
    assert model.most == 0
    assert counter.windows == len(windows.down.starts) * len(windows.across.starts)


def test_a_window_that_says_nothing_takes_nothing_from_its_neighbours() -> None:
    class OneIsSilent(WindowMeans):
        def run(self, inputs: Inputs) -> list[NDArray[np.float32]]:
            found = super().run(inputs)
            silent_B = (inputs.values["any"] == 7).all(1).all(1).all(1).numpy()
            for output in found:
                output[silent_B] = np.nan
            return found

    pixels = np.ones((1, 5 * PATCH, 8 * PATCH), np.float32)
    pixels[:, :, 3 * PATCH :] = 7
    windows = Windows(WindowAxis(5, 5, 2), WindowAxis(8, 5, 2), PATCH)
    ((_, rasters),) = finished_units(units_of(5, 8, 5, 8), windows, OneIsSilent(), Image(pixels), 16, Nothing())
    # Columns 3 and 4 lie in both windows, and the second one says nothing.
    np.testing.assert_allclose(rasters["one"][0, 0], [1, 1, 1, 7, 7, np.nan, np.nan, np.nan])


def test_an_error_while_reading_ahead_reaches_the_caller() -> None:
    class Damaged(Image):
        def read(self, top: int, left: int, height: int, width: int) -> dict[str, NDArray[Any]]:
            if top > 30 * PATCH:
                raise OSError("damaged")
            return super().read(top, left, height, width)

    image = Damaged(np.ones((1, 100 * PATCH, 6 * PATCH), np.float32))
    windows = Windows(WindowAxis(100, 5, 2), WindowAxis(6, 5, 2), PATCH)
    with pytest.raises(OSError, match="damaged"):
        list(finished_units(units_of(100, 6, 5, 8), windows, WindowMeans(), image, 16, Nothing()))
