"""The tasks of MMEarth-Bench are read as MMEarth's own data sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from mmae.errors import InputError
from mmae.evaluate.benchmark.mmearth_bench.bench_layout import TASKS
from mmae.evaluate.benchmark.mmearth_bench.bench_task import open_bench
from tests.support import mmearth_bench
from tests.support.mmearth_bench import write_bench

SHAPES = {"biomass": (3, 16, 16), "species": (3, 100)}


@pytest.mark.parametrize("name", mmearth_bench.TASKS)
def test_all_five_tasks_are_read(tmp_path: Path, name: str) -> None:
    assert set(TASKS) == set(mmearth_bench.TASKS)
    write_bench(tmp_path, name)
    task = open_bench(tmp_path, name)
    tiles = task.read(task.splits["train"][:3])
    assert tiles.labels.shape == SHAPES.get(name, (3, 1))
    assert {dataset: array.shape[:2] for dataset, array in tiles.arrays.items()} == {
        dataset: (3, len(bands)) for dataset, bands in task.bands.items()
    }
    assert task.tests == ("random_test", "geographic_test")
    assert not set(task.splits["random_test"]) & set(task.splits["geographic_test"])


def test_bands_stand_under_their_names(tmp_path: Path) -> None:
    folder = write_bench(tmp_path, "soil_pH")
    task = open_bench(tmp_path, "soil_pH")
    arrays = task.read(["5"]).arrays
    with h5py.File(folder / "soil_pH.h5") as file:
        sentinel2, sentinel1, aster = (file[name][5] for name in ("Sentinel2", "Sentinel1", "ASTER_GDEM"))

    def band(dataset: str, name: str) -> NDArray[Any]:
        found: NDArray[Any] = arrays[dataset][0, task.bands[dataset].index(name)]
        return found

    # B8 stands before B8A, other than in MMEarth, and there is no B10.
    assert np.array_equal(band("sentinel2", "B4"), sentinel2[3])
    assert np.array_equal(band("sentinel2", "B8"), sentinel2[7])
    assert np.array_equal(band("sentinel2", "B8A"), sentinel2[8])
    assert np.array_equal(band("sentinel2", "B12"), sentinel2[11])
    assert np.array_equal(band("sentinel1", "desc VH"), sentinel1[5])
    assert np.isnan(band("sentinel1", "asc HH")).all()
    assert np.array_equal(band("aster", "elevation"), aster[0])


def test_four_radar_bands_are_without_hh_and_hv(tmp_path: Path) -> None:
    folder = write_bench(tmp_path, "soil_pH", sentinel1_bands=4)
    task = open_bench(tmp_path, "soil_pH")
    with h5py.File(folder / "soil_pH.h5") as file:
        last = file["Sentinel1"][5, 3]
    found = task.read(["5"]).arrays["sentinel1"][0]
    assert np.array_equal(found[task.bands["sentinel1"].index("desc VH")], last)
    assert np.isnan(found[task.bands["sentinel1"].index("desc HV")]).all()


def test_no_data_and_missing_modalities_are_no_data(tmp_path: Path) -> None:
    folder = write_bench(tmp_path, "soil_pH", missing={2: ["sentinel1", "dynamic_world", "aster_gdem", "temperature"]})
    with h5py.File(folder / "soil_pH.h5", "r+") as file:
        file["Sentinel2"][0, :, 0, 0] = 65535
        file["Sentinel1"][0, 0, 1, 1] = -9999
    arrays = open_bench(tmp_path, "soil_pH").read(["0", "2"]).arrays
    assert np.isnan(arrays["sentinel2"][0, :, 0, 0]).all()
    assert np.isnan(arrays["sentinel1"][0, 0]).sum() == 1
    assert np.isnan(arrays["sentinel1"][1]).all()
    assert np.isnan(arrays["aster"][1]).all()
    assert (arrays["dynamic_world"][1] == 0).all()
    assert not np.isnan(arrays["canopy_height_eth"]).any()


def test_classes_that_are_counted_from_0_become_the_codes_of_mmearth(tmp_path: Path) -> None:
    folder = write_bench(tmp_path, "soil_pH")
    with h5py.File(folder / "soil_pH.h5", "r+") as file:
        file["ESA_WorldCover"][0, 0, 0, :12] = range(12)
        file["DynamicWorld"][0, 0, 0, :10] = range(10)
    arrays = open_bench(tmp_path, "soil_pH").read(["0"]).arrays
    assert arrays["esa_worldcover"][0, 0, 0, :12].tolist() == [10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 100, 0]
    assert arrays["dynamic_world"][0, 0, 0, :10].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    assert arrays["esa_worldcover"].dtype == np.int64


def test_numbers_that_are_no_class_are_refused(tmp_path: Path) -> None:
    folder = write_bench(tmp_path, "soil_pH")
    with h5py.File(folder / "soil_pH.h5", "r+") as file:
        file["ESA_WorldCover"][0, 0, 0, 0] = 12
    with pytest.raises(InputError, match="'ESA_WorldCover' holds more than the numbers 0 to 10 and no data"):
        open_bench(tmp_path, "soil_pH").read(["0"])


def test_pixels_without_a_measurement_are_not_scored(tmp_path: Path) -> None:
    folder = write_bench(tmp_path, "biomass", unlabelled=(1,))
    with h5py.File(folder / "biomass.h5", "r+") as file:
        file["biomass"][0, 0, :3] = -9999
    task = open_bench(tmp_path, "biomass")
    assert np.isnan(task.read(["0"]).labels).sum() == 3
    assert "1" not in task.splits["train"]
    assert any("1 tile without any label" in note for note in task.notes)


def test_partitions_are_shares_of_the_training_tiles(tmp_path: Path) -> None:
    write_bench(tmp_path, "species")
    whole, half, few = (open_bench(tmp_path, "species", name) for name in ("default", "50%", "5%"))
    assert [len(task.splits["train"]) for task in (whole, half, few)] == [18, 9, 2]
    assert whole.splits["random_test"] == few.splits["random_test"]


def test_labels_of_species_are_those_of_their_names(tmp_path: Path) -> None:
    write_bench(tmp_path, "species")
    labels = open_bench(tmp_path, "species").read([str(row) for row in range(36)]).labels
    assert set(map(tuple, labels[:, :8].tolist())) == {(1, 0, 1, 0, 1, 0, 1, 0), (0, 1, 0, 1, 0, 1, 0, 1)}
    assert labels[:, 8:].sum() == 0


def test_places_are_latitude_and_longitude(tmp_path: Path) -> None:
    write_bench(tmp_path, "species")
    task = open_bench(tmp_path, "species")
    places = task.places(["0", "35"])
    assert places is not None
    assert places.tolist() == [[-30, -70], [50, 60]]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("file", "does not exist: the suite is not whole"),
        ("splits", "does not list rows"),
        ("beyond", "does not list rows"),
        ("shared", "in another split too"),
        ("labels", "there are no labels 'soil_pH'"),
        ("bands", "'Sentinel2' has shape"),
        ("no data", "no_data_values.json does not exist"),
        ("codes", "no data of 'DynamicWorld' is 0, and 9 is known"),
        ("half", "cannot be read"),
    ],
)
def test_what_is_damaged_is_one_line(tmp_path: Path, damage: str, says: str) -> None:
    folder = write_bench(tmp_path, "soil_pH")
    path, splits = folder / "soil_pH.h5", folder / "soil_pH_split_data.json"
    said = json.loads(splits.read_text())
    match damage:
        case "file":
            path.unlink()
        case "splits":
            splits.write_text("{}")
        case "beyond":
            splits.write_text(json.dumps({**said, "val_indices": [36]}))
        case "shared":
            splits.write_text(json.dumps({**said, "val_indices": [0]}))
        case "labels" | "bands":
            with h5py.File(path, "r+") as file:
                del file["soil_pH" if damage == "labels" else "Sentinel2"]
                if damage == "bands":
                    file["Sentinel2"] = np.ones((36, 3, 16, 16))
        case "no data":
            (tmp_path / "no_data_values.json").unlink()
        case "codes":
            path = tmp_path / "no_data_values.json"
            path.write_text(json.dumps({**mmearth_bench.NO_DATA, "DynamicWorld": 0}))
        case "half":
            path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(InputError, match=says) as caught:
        open_bench(tmp_path, "soil_pH")
    assert "\n" not in str(caught.value)


def test_unknown_names_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'soil_pH'"):
        open_bench(tmp_path, "soil_ph")
    write_bench(tmp_path, "soil_pH")
    with pytest.raises(InputError, match="no partition '10%'"):
        open_bench(tmp_path, "soil_pH", "10%")
