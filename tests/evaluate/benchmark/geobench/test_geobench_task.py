"""The tasks of GEO-Bench v1 are read by sensor and name, in the units of MMEarth."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from mmae.errors import InputError
from mmae.evaluate.benchmark.geobench.geobench_task import open_geobench
from mmae.evaluate.benchmark.geobench.task_table import TASKS
from tests.support.geobench_suite import BRICK_KILN, DN, EUROSAT, MADE, ORDER, write_task


def test_all_twelve_tasks_are_read(tmp_path: Path) -> None:
    assert set(TASKS) == set(MADE)
    for name, made in MADE.items():
        write_task(tmp_path, name, (4, 2, 2))
        task = open_geobench(tmp_path, name)
        tiles = task.read(task.splits["train"])
        assert {dataset: array.shape for dataset, array in tiles.arrays.items()} == {
            dataset: (4, len(bands), 16, 16) for dataset, bands in task.bands.items()
        }
        assert all(array.dtype == np.float32 for array in tiles.arrays.values())
        shape = {"segmentation": (4, 16, 16), "multilabel": (4, 43)}.get(made.kind, (4,))
        assert tiles.labels.shape == shape
        assert task.tests == ("test",)


@pytest.mark.parametrize("name", ["m-eurosat", "m-brick-kiln"])
def test_wrong_names_of_bands_are_corrected_once(tmp_path: Path, name: str) -> None:
    for folder, repaired in (("published", False), ("mended", True)):
        write_task(tmp_path / folder, name, repaired=repaired)
        task = open_geobench(tmp_path / folder, name)
        assert any("corrected" in note for note in task.notes) is not repaired
        images = task.read(task.splits["train"]).arrays["sentinel2"]
        means = dict(zip(task.bands["sentinel2"], images.mean((0, 2, 3)), strict=True))
        written = ORDER if repaired else {"m-eurosat": EUROSAT, "m-brick-kiln": BRICK_KILN}[name]
        labels = np.arange(len(images)) % MADE[name].outputs
        assert means.keys() == set(written) & set(DN)
        for place, band in enumerate(written):
            if band in means:
                brighter = np.cos(1.7 * labels + place).mean()
                assert means[band] == pytest.approx(DN[band] * (1 + 0.4 * brighter), rel=0.02, abs=1), band


def test_a_correction_says_what_is_what(tmp_path: Path) -> None:
    write_task(tmp_path, "m-eurosat")
    note = open_geobench(tmp_path, "m-eurosat").notes[0]
    assert "'08A - Vegetation Red Edge' is B9" in note
    assert "'12 - SWIR' is B8A" in note


def test_names_that_values_neither_confirm_nor_refute_are_refused(tmp_path: Path) -> None:
    write_task(tmp_path, "m-eurosat", without=["09 - Water vapour"])
    with pytest.raises(InputError, match="not clear whether its bands have the wrong names"):
        open_geobench(tmp_path, "m-eurosat")


def test_only_the_two_published_tasks_are_corrected(tmp_path: Path) -> None:
    write_task(tmp_path, "m-SA-crop-type")
    task = open_geobench(tmp_path, "m-SA-crop-type")
    assert task.stored["sentinel2"]["B8A"] == "08A - Vegetation Red Edge"


def test_the_sensor_decides_what_a_name_means(tmp_path: Path) -> None:
    write_task(tmp_path, "m-forestnet")
    assert open_geobench(tmp_path, "m-forestnet").stored["sentinel2"]["B8"] == "05 - NIR"
    write_task(tmp_path, "m-bigearthnet")
    assert open_geobench(tmp_path, "m-bigearthnet").stored["sentinel2"]["B5"] == "05 - Vegetation Red Edge"


def test_reflectance_and_power_become_digital_numbers_and_decibels(tmp_path: Path) -> None:
    folder = write_task(tmp_path, "m-so2sat")
    task = open_geobench(tmp_path, "m-so2sat")
    sample = task.splits["test"][0]
    arrays = task.read([sample]).arrays
    with h5py.File(folder / f"{sample}.hdf5") as file:
        red, vv, vh = (file[name][()] for name in ("04 - Red", "06 - VV.LEE Filtered", "05 - VH.LEE Filtered"))
    bands = task.bands
    assert np.allclose(arrays["sentinel2"][0, bands["sentinel2"].index("B4")], red * 10_000, rtol=1e-6)
    assert np.allclose(arrays["sentinel1"][0, bands["sentinel1"].index("asc VV")], 10 * np.log10(vv), rtol=1e-5)
    assert np.allclose(arrays["sentinel1"][0, bands["sentinel1"].index("asc VH")], 10 * np.log10(vh), rtol=1e-5)
    assert set(bands["sentinel1"]) == {"asc VV", "asc VH"}


def test_power_of_nothing_is_no_data(tmp_path: Path) -> None:
    folder = write_task(tmp_path, "m-so2sat")
    task = open_geobench(tmp_path, "m-so2sat")
    sample = task.splits["test"][0]
    with h5py.File(folder / f"{sample}.hdf5", "r+") as file:
        file["06 - VV.LEE Filtered"][0, 0] = 0
    found = task.read([sample]).arrays["sentinel1"][0, task.bands["sentinel1"].index("asc VV")]
    assert np.isnan(found[0, 0])
    assert np.isnan(found).sum() == 1


def test_the_last_of_several_dates_is_read(tmp_path: Path) -> None:
    folder = write_task(tmp_path, "m-cashew-plant")
    task = open_geobench(tmp_path, "m-cashew-plant")
    assert any("2 dates" in note for note in task.notes)
    sample = task.splits["test"][0]
    with h5py.File(folder / f"{sample}.hdf5") as file:
        last = file["04 - Red_2019-12-10"][()]
    assert np.array_equal(task.read([sample]).arrays["sentinel2"][0, task.bands["sentinel2"].index("B4")], last)


@pytest.mark.parametrize("name", ["m-eurosat", "m-bigearthnet"])
def test_labels_are_the_same_from_tables_and_from_pickles(tmp_path: Path, name: str) -> None:
    write_task(tmp_path / "with", name)
    write_task(tmp_path / "without", name, tables=False)
    read = []
    for folder in ("with", "without"):
        task = open_geobench(tmp_path / folder, name)
        read.append(task.read(task.splits["train"]).labels)
    assert np.array_equal(read[0], read[1])
    assert read[0].max() > 0


def test_tables_are_read_before_pickles(tmp_path: Path) -> None:
    folder = write_task(tmp_path, "m-eurosat")
    for path in folder.glob("*.hdf5"):
        with h5py.File(path, "r+") as file:
            file.attrs["pickle"] = "nothing"
    task = open_geobench(tmp_path, "m-eurosat")
    assert task.read(task.splits["train"][:3]).labels.tolist() == [0, 1, 2]


def test_bands_with_larger_pixels_are_brought_to_the_grid(tmp_path: Path) -> None:
    folder = write_task(tmp_path, "m-bigearthnet")
    task = open_geobench(tmp_path, "m-bigearthnet")
    sample = task.splits["test"][0]
    coarse = np.arange(16, dtype=np.float32).reshape(4, 4) + 100
    with h5py.File(folder / f"{sample}.hdf5", "r+") as file:
        del file["11 - SWIR"]
        file["11 - SWIR"] = coarse
    found = task.read([sample]).arrays["sentinel2"][0, task.bands["sentinel2"].index("B11")]
    assert np.array_equal(found, np.kron(coarse, np.ones((4, 4))))


def test_a_partition_has_fewer_training_samples(tmp_path: Path) -> None:
    write_task(tmp_path, "m-eurosat")
    whole, half = (open_geobench(tmp_path, "m-eurosat", name) for name in ("default", "0.50x_train"))
    assert len(half.splits["train"]) == 6
    assert half.splits["valid"] == whole.splits["valid"]
    assert half.fingerprint(half.splits["train"]) != whole.fingerprint(whole.splits["train"])
    assert half.fingerprint(half.splits["test"]) == whole.fingerprint(whole.splits["test"])


def test_places_come_from_the_inert_description(tmp_path: Path) -> None:
    write_task(tmp_path, "m-eurosat")
    task = open_geobench(tmp_path, "m-eurosat")
    places = task.places(task.splits["train"][:2])
    assert places is not None
    # The middle of zone 32 is 9 degrees east; the second sample lies 2 km east of the first. Samples have 160 m.
    assert places[0] == pytest.approx([45.15354 - 0.08 / 111.13, 9.0 + 0.08 / 78.7], abs=1e-4)
    assert places[1, 1] - places[0, 1] == pytest.approx(2 / (111.32 * np.cos(np.radians(45.153))), rel=0.01)


def test_one_place_for_all_samples_is_none(tmp_path: Path) -> None:
    folder = write_task(tmp_path, "m-eurosat")
    first, *rest = sorted(folder.glob("*.hdf5"))
    with h5py.File(first) as file:
        said = file.attrs["pickle"]
    for path in rest:
        with h5py.File(path, "r+") as file:
            file.attrs["pickle"] = said
    task = open_geobench(tmp_path, "m-eurosat")
    assert task.places(task.splits["test"]) is None
    assert task.half_diagonal_km == pytest.approx(0.08 * 2**0.5)


def test_other_labels_or_pixels_have_another_fingerprint(tmp_path: Path) -> None:
    folder = write_task(tmp_path, "m-eurosat")
    ids = ("sample_0000", "sample_0001")

    def found() -> str:
        return open_geobench(tmp_path, "m-eurosat").fingerprint(ids)

    first = found()
    table = json.loads((folder / "label_map.json").read_text())
    table["1"], table["2"] = table["2"], table["1"]
    (folder / "label_map.json").write_text(json.dumps(table))
    second = found()
    path = folder / "sample_0000.hdf5"
    size = path.stat().st_size
    with h5py.File(path, "r+") as file:
        file["04 - Red"][0, 0] += 1
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert path.stat().st_size == size
    assert len({first, second, found()}) == 3


def test_masks_leave_out_what_has_no_class(tmp_path: Path) -> None:
    folder = write_task(tmp_path, "m-SA-crop-type")
    task = open_geobench(tmp_path, "m-SA-crop-type")
    sample = task.splits["test"][0]
    with h5py.File(folder / f"{sample}.hdf5", "r+") as file:
        file["label"][0, :2] = 255
    labels = task.read([sample]).labels
    assert (labels[0, 0, :2] == -1).all()
    assert (labels == -1).sum() == 2


def _damage(name: str) -> Callable[[Path], None]:
    def link(folder: Path) -> None:
        with h5py.File(folder / "other.h5", "w") as other:
            other["secret"] = np.ones((16, 16))
        for path in folder.glob("*.hdf5"):
            with h5py.File(path, "r+") as file:
                del file["04 - Red"]
                file["04 - Red"] = h5py.ExternalLink(str(folder / "other.h5"), "secret")

    def evil(folder: Path) -> None:
        for table in ("label_map.json", "label_stats.json"):
            (folder / table).unlink()
        for path in folder.glob("*.hdf5"):
            with h5py.File(path, "r+") as file:
                file.attrs["pickle"] = str(pickle.dumps({"label": "3"}))

    def partition(content: str) -> Callable[[Path], None]:
        def write(folder: Path) -> None:
            (folder / "default_partition.json").write_text(content)

        return write

    def truncate(folder: Path) -> None:
        for path in folder.glob("*.hdf5"):
            path.write_bytes(path.read_bytes()[:500])

    def class_beyond(folder: Path) -> None:
        samples = [path.stem for path in folder.glob("*.hdf5")]
        (folder / "label_map.json").write_text(json.dumps({"77": samples}))

    known: dict[str, Callable[[Path], None]] = {
        "half": lambda folder: sorted(folder.glob("*.hdf5"))[-1].unlink(),
        "absent": shutil.rmtree,
        "no partition": lambda folder: (folder / "default_partition.json").unlink(),
        "partition": partition("[1, 2"),
        "keys": partition('{"train": [], "val": [], "test": []}'),
        "escape": partition('{"train": ["../../x"], "valid": ["sample_0001"], "test": ["sample_0002"]}'),
        "twice": partition('{"train": ["sample_0001"], "valid": ["sample_0001"], "test": ["sample_0002"]}'),
        "deep": partition("[" * 100_000),
        "link": link,
        "truncated": truncate,
        "label": evil,
        "class": class_beyond,
    }
    return known[name]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("half", r"1 of the 24 samples of default_partition.json have no file \(the first: sample_0023.hdf5\)"),
        ("absent", "is no folder: task m-eurosat of GEO-Bench v1 is to lie there"),
        ("no partition", "has no partition 'default'; did you mean|has no partition 'default' .known"),
        ("partition", "cannot be read"),
        ("keys", "does not have the keys train, valid, test"),
        ("escape", "'../../x', which is no name of a sample"),
        ("twice", "in both train and valid"),
        ("deep", "nested too deeply"),
        ("link", "'04 - Red' is a link to somewhere else"),
        ("truncated", "cannot be read"),
        ("label", "label"),
        ("class", "label 77 is none of the 10 classes"),
    ],
)
def test_what_is_damaged_is_one_line(tmp_path: Path, damage: str, says: str) -> None:
    folder = write_task(tmp_path, "m-eurosat")
    _damage(damage)(folder)
    with pytest.raises(InputError, match=says) as caught:
        _read_all(tmp_path)
    assert "\n" not in str(caught.value)


def _read_all(root: Path) -> None:
    task = open_geobench(root, "m-eurosat")
    task.read(task.splits["train"])


def test_an_unknown_task_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no task 'm-eurosta'; did you mean 'm-eurosat'"):
        open_geobench(tmp_path, "m-eurosta")
