"""Tasks of suites as sets: the same tiles and labels as the suites' own readers give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mmae.config.finetune_schema import FinetuneConfig
from mmae.errors import InputError
from mmae.evaluate.benchmark.open_suite import open_task
from mmae.finetune.labelled.sample_labels import LABEL
from mmae.finetune.labelled.tile_reading import read_tiles
from mmae.finetune.sources.open_source import open_source
from mmae.finetune.sources.source_set import as_set
from mmae.modalities import S2_BANDS
from tests.support.geobench_suite import write_task
from tests.support.mmearth_bench import write_bench
from tests.support.tuning_case import tuning_config


def config(kind: str, folder: Path, task: str, task_kind: str, *more: str) -> FinetuneConfig:
    head = "linear" if task_kind in {"classification", "multilabel", "regression"} else "patch_linear"
    words = (f"source.kind={kind}", f"source.folder={folder}", f"source.task={task}", f"task.kind={task_kind}")
    return tuning_config(*words, f"model.head={head}", "data.shards=", *more)


def test_a_class_of_geobench_is_read_with_its_corrected_bands(tmp_path: Path) -> None:
    write_task(tmp_path, "m-eurosat", (5, 3, 2))
    each = as_set(open_source(config("geobench1", tmp_path, "m-eurosat", "classification")))
    task = open_task("geobench1", tmp_path, "m-eurosat")
    assert each.bands == {"sentinel2": tuple(map(S2_BANDS.index, task.bands["sentinel2"]))}
    for split, ours in (("train", "train"), ("valid", "val"), ("test", "test")):
        positions = each.index.of_split(ours)
        keys = [key.decode() for key in each.index.tile_id[positions].tolist()]
        assert keys == list(task.splits[split])
        (batch,) = read_tiles(each, ["sentinel2", LABEL], positions)
        theirs = task.read(keys)
        np.testing.assert_array_equal(batch.pixels["sentinel2"].numpy(), theirs.arrays["sentinel2"])
        np.testing.assert_array_equal(batch.pixels[LABEL][:, 0].numpy(), theirs.labels)
    assert set(each.index.level.tolist()) == {0}
    # Only test tiles have their places read.
    assert np.isfinite(each.index.lat[each.index.of_split("test")]).all()
    assert np.isnan(each.index.lat[each.index.of_split("train")]).all()


def test_statistics_are_those_of_training_tiles_with_nothing_for_absent_bands(tmp_path: Path) -> None:
    write_task(tmp_path, "m-SA-crop-type", (4, 2, 2))
    each = as_set(open_source(config("geobench1", tmp_path, "m-SA-crop-type", "segmentation")))
    task = open_task("geobench1", tmp_path, "m-SA-crop-type")
    values = task.read(task.splits["train"]).arrays["sentinel2"].astype(np.float64)
    stats = each.index.band_stats["sentinel2_l2a"]
    places = list(map(S2_BANDS.index, task.bands["sentinel2"]))
    np.testing.assert_allclose(np.array(stats["mean"])[places], values.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(np.array(stats["std"])[places], values.std((0, 2, 3)), rtol=1e-6)
    assert (stats["mean"][10], stats["std"][10]) == (0.0, 0.0)


def test_black_of_a_picture_is_data(tmp_path: Path) -> None:
    write_task(tmp_path, "m-pv4ger-seg", (3, 2, 2))
    each = as_set(open_source(config("geobench1", tmp_path, "m-pv4ger-seg", "segmentation")))
    task = open_task("geobench1", tmp_path, "m-pv4ger-seg")
    (batch,) = read_tiles(each, ["sentinel2", LABEL], each.index.of_split("train"))
    theirs = task.read(task.splits["train"])
    np.testing.assert_array_equal(batch.pixels["sentinel2"].numpy(), theirs.arrays["sentinel2"] + 1)
    np.testing.assert_array_equal(batch.pixels[LABEL][:, 0].numpy(), theirs.labels)


@pytest.mark.parametrize(("name", "kind"), [("biomass", "pixel_regression"), ("species", "multilabel")])
def test_labels_of_mmearth_bench_are_read_without_the_images(
    name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bench(tmp_path, name)
    each = as_set(open_source(config("mmearth-bench", tmp_path, name, kind, "data.test_split=random_test")))
    task = open_task("mmearth-bench", tmp_path, name)
    assert set(each.index.splits) == {"train", "val", "random_test", "geographic_test", "none"}
    monkeypatch.setattr("mmae.evaluate.benchmark.mmearth_bench.bench_task.BenchTask._array", None)
    (batch,) = read_tiles(each, [LABEL], each.index.of_split("geographic_test"))
    monkeypatch.undo()
    theirs = torch.from_numpy(task.read(task.splits["geographic_test"]).labels).float()
    assert torch.equal(batch.pixels[LABEL].flatten(1), theirs.flatten(1))


def test_a_task_of_another_kind_is_refused(tmp_path: Path) -> None:
    write_task(tmp_path, "m-eurosat", (5, 3, 2))
    with pytest.raises(InputError, match="m-eurosat is a task of classification"):
        open_source(config("geobench1", tmp_path, "m-eurosat", "segmentation"))
