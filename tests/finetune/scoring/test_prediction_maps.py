"""Maps of predictions: their place on the ground, and a file for each tile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mmae.finetune.labelled.tile_reading import read_tiles
from mmae.finetune.labelled.tuning_samples import Samples
from mmae.finetune.scoring.prediction_maps import PredictionMaps
from mmae.model.tuned.task import Task
from tests.support.tuning_case import labelled_set, tuning_spec

rasterio = pytest.importorskip("rasterio")
HEIGHT = Task("pixel_regression", "height", targets=("h",), units=("m",), mean=(0.0,), std=(1.0,))


@pytest.mark.parametrize("covers", [1.0, 0.5, 2.0])
def test_a_map_of_a_resized_tile_covers_the_tile(covers: float, tmp_path: Path) -> None:
    each = tuning_spec(tmp_path, labelled_set(tmp_path)).labelled.each
    (batch,) = read_tiles(each, ("aster",), np.array([0]))
    side = round(16 / covers)
    predicted = torch.rand(1, 1, side, side)
    PredictionMaps(tmp_path / "maps", each.index, HEIGHT, (covers, covers)).take(predicted, _none(), batch)
    with rasterio.open(tmp_path / "maps" / "tile-0.tif") as file:
        bounds = file.bounds
        assert (bounds.right - bounds.left, bounds.top - bounds.bottom) == (160.0, 160.0)
        assert np.array_equal(file.read(), predicted[0].numpy())


def test_tiles_whose_ids_look_alike_in_file_names_keep_a_file_each(tmp_path: Path) -> None:
    each = tuning_spec(tmp_path, labelled_set(tmp_path)).labelled.each
    ids = each.index.tile_id.copy()
    ids[:3] = [b"a/b", b"a b", b"a_b"]
    (batch,) = read_tiles(each, ("aster",), np.arange(3))
    maps = PredictionMaps(tmp_path / "maps", replace(each.index, tile_id=ids), HEIGHT)
    maps.take(torch.rand(3, 1, 16, 16), _none(), batch)
    names = {path.name for path in (tmp_path / "maps").iterdir()}
    assert names == {"a_b_row0.tif", "a_b_row1.tif", "a_b.tif"}


def _none() -> Samples:
    """Samples are not looked at."""
    return None  # type: ignore[return-value]
