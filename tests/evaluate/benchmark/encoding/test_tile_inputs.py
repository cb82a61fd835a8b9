"""A task's bands become the model's inputs by name, in the model's units or by the task's own statistics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mmae.errors import InputError
from mmae.evaluate.benchmark.encoding.tile_features import TileFeatures
from mmae.evaluate.benchmark.encoding.tile_inputs import Reading, tile_inputs
from mmae.evaluate.benchmark.geobench.geobench_task import open_geobench
from mmae.evaluate.benchmark.mmearth_bench.bench_task import open_bench
from mmae.evaluate.frozen.feature_store import FeatureStore
from mmae.inference.raw_encoder import RawEncoder, load_encoder
from tests.support.benchmark_model import write_model
from tests.support.geobench_suite import write_task
from tests.support.mmearth_bench import write_bench
from tests.support.raw_encoder_case import MEAN, STD

EVERY = ("rgb", "ired", "sired", "ebands", "sentinel1", "depth", "semseg")


def encoder_of(folder: Path, inputs: tuple[str, ...] = EVERY) -> RawEncoder:
    return load_encoder(write_model(folder / "model", inputs))


def test_bands_are_normalised_by_the_models_statistics_of_their_own_band(tmp_path: Path) -> None:
    write_task(tmp_path, "m-eurosat")
    task = open_geobench(tmp_path, "m-eurosat")
    inputs = tile_inputs(encoder_of(tmp_path), task, Reading())
    assert inputs.modalities == ("rgb", "ired", "sired", "ebands")
    tiles = task.read(task.splits["test"])
    values = inputs(tiles.arrays).values
    for modality, band, place, channel in (("rgb", "B4", 3, 0), ("ebands", "B8A", 7, 0), ("sired", "B12", 12, 1)):
        dn = tiles.arrays["sentinel2"][:, task.bands["sentinel2"].index(band)]
        expected = (dn - MEAN[place]) / STD[place]
        assert np.allclose(values[modality][:, channel].numpy(), expected, atol=1e-5), band


def test_pictures_are_normalised_by_the_tasks_own_statistics(tmp_path: Path) -> None:
    write_task(tmp_path, "m-pv4ger", (40, 6, 6))
    task = open_geobench(tmp_path, "m-pv4ger")
    inputs = tile_inputs(encoder_of(tmp_path), task, Reading())
    assert (inputs.normalisation, inputs.modalities) == ("task", ("rgb",))
    given = inputs(task.read(task.splits["train"]).arrays)
    assert given.values["rgb"].mean((0, 2, 3)).abs().max() < 1e-3
    assert (given.values["rgb"].std((0, 2, 3)) - 1).abs().max() < 1e-3


def test_black_in_a_picture_is_data(tmp_path: Path) -> None:
    write_task(tmp_path, "m-pv4ger")
    task = open_geobench(tmp_path, "m-pv4ger")
    inputs = tile_inputs(encoder_of(tmp_path), task, Reading())
    black = {"sentinel2": np.zeros((1, 3, 16, 16), np.float32)}
    assert bool(inputs(black).valid["rgb"].all())


def test_the_tasks_statistics_can_be_asked_for(tmp_path: Path) -> None:
    write_task(tmp_path, "m-eurosat", (40, 6, 6))
    task = open_geobench(tmp_path, "m-eurosat")
    encoder = encoder_of(tmp_path)
    inputs = tile_inputs(encoder, task, Reading("task"))
    given = inputs(task.read(task.splits["train"]).arrays)
    for name in inputs.modalities:
        assert given.values[name].mean((0, 2, 3)).abs().max() < 1e-3, name
    # The model's own statistics are left alone.
    assert encoder.saved.band_stats["sentinel2_l1c"]["mean"] == MEAN


def test_an_offset_is_added_before_the_models_statistics(tmp_path: Path) -> None:
    write_task(tmp_path, "m-eurosat")
    task = open_geobench(tmp_path, "m-eurosat")
    encoder = encoder_of(tmp_path, ("rgb",))
    arrays = task.read(task.splits["test"]).arrays
    plain, lower = (tile_inputs(encoder, task, Reading(offset=offset, check_units=False)) for offset in (0, -100))
    difference = plain(arrays).values["rgb"] - lower(arrays).values["rgb"]
    assert torch.allclose(difference, (100 / torch.tensor(STD)[[3, 2, 1], None, None]).expand_as(difference), atol=1e-5)


def test_a_substitute_of_no_data_is_no_data(tmp_path: Path) -> None:
    write_task(tmp_path, "m-so2sat")
    task = open_geobench(tmp_path, "m-so2sat")
    encoder = encoder_of(tmp_path)
    assert "sentinel1" not in tile_inputs(encoder, task, Reading()).modalities
    inputs = tile_inputs(encoder, task, Reading(substitutes=(("sentinel1", "none"),)))
    assert "sentinel1" in inputs.modalities
    valid = inputs(task.read(task.splits["test"]).arrays).valid["sentinel1"]
    # VV and VH of the ascending orbit are measured.
    assert valid.float().mean((0, 2, 3)).tolist() == [1, 1, 0, 0, 0, 0, 0, 0]


def test_a_substitute_that_is_not_there_is_refused(tmp_path: Path) -> None:
    write_task(tmp_path, "m-forestnet")
    task = open_geobench(tmp_path, "m-forestnet")
    with pytest.raises(InputError, match="--substitute B8A=B7: the task has no band B7"):
        tile_inputs(encoder_of(tmp_path), task, Reading(substitutes=(("B8A", "B7"),)))


def test_a_model_without_any_of_the_bands_is_refused_by_name(tmp_path: Path) -> None:
    write_task(tmp_path, "m-eurosat")
    with pytest.raises(InputError, match="m-eurosat: the model takes none of its bands"):
        tile_inputs(encoder_of(tmp_path, ("depth",)), open_geobench(tmp_path, "m-eurosat"), Reading())


def test_all_modalities_of_mmearth_bench_are_taken(tmp_path: Path) -> None:
    write_bench(tmp_path, "soil_pH", missing={0: ["sentinel1"]})
    task = open_bench(tmp_path, "soil_pH")
    inputs = tile_inputs(encoder_of(tmp_path), task, Reading())
    assert set(inputs.modalities) == set(EVERY)
    given = inputs(task.read(["0", "1"]).arrays)
    assert not bool(given.valid["sentinel1"][0].any())
    assert bool(given.valid["sentinel1"][1, :2].all())
    assert not bool(given.valid["sentinel1"][1, 2:4].any())


def test_a_tile_of_several_windows_is_what_its_windows_say(tmp_path: Path) -> None:
    write_task(tmp_path, "m-eurosat", (8, 4, 4), side=48)
    task = open_geobench(tmp_path, "m-eurosat")
    encoder = encoder_of(tmp_path, ("rgb",))
    features = TileFeatures(task, tile_inputs(encoder, task, Reading(window=16)), 16)
    ids = task.splits["test"]
    outputs, _ = next(features.maps(ids[:1], (0, 1)))
    assert [tuple(each.shape) for each in outputs.maps] == [(1, 64, 12, 12)] * 2
    array = task.read(ids[:1]).arrays["sentinel2"][:, [3, 2, 1], 16:32, 32:48]
    alone = encoder(array, bands=["B4", "B3", "B2"], level="l1c", check_units=False)
    assert torch.allclose(outputs.maps[1][0, :, 4:8, 8:12], alone.maps["rgb"][0].permute(2, 0, 1), atol=1e-5)
    store = FeatureStore(tmp_path / "features", {"of": "this test"})
    vectors = features.vectors(ids, store, (1,), ("mean", "max"))
    assert torch.allclose(vectors.by_choice[1, "mean"][0], outputs.maps[1][0].mean((1, 2)), atol=1e-5)
    assert torch.allclose(vectors.by_choice[1, "max"][0], outputs.maps[1][0].amax((1, 2)), atol=1e-5)


def test_vectors_are_kept_and_reused(tmp_path: Path) -> None:
    write_task(tmp_path, "m-eurosat", (8, 4, 4))
    task = open_geobench(tmp_path, "m-eurosat")
    inputs = tile_inputs(encoder_of(tmp_path, ("rgb",)), task, Reading())
    store = FeatureStore(tmp_path / "features", {"of": "this test"})
    first, second = TileFeatures(task, inputs, 4), TileFeatures(task, inputs, 4)
    one, two = (each.vectors(task.splits["train"], store, (0, 1), ("mean",)) for each in (first, second))
    assert (first.meter.tiles, second.meter.tiles) == (8, 0)
    assert all(torch.equal(one.by_choice[choice], two.by_choice[choice]) for choice in one.by_choice)
    assert torch.equal(one.labels, two.labels)
