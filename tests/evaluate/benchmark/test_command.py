"""`mmae benchmark`: from a suite's folder to a table of scores."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch

from mmae.disk.named_arrays import load_arrays
from mmae.evaluate.benchmark.encoding.tile_features import TileFeatures
from mmae.evaluate.benchmark.protocols.dense_protocols import Targets
from mmae.evaluate.benchmark.result_rows import COLUMNS
from tests.support.benchmark_model import benchmark, read_rows, write_model
from tests.support.commands import Command
from tests.support.geobench_suite import write_task
from tests.support.mmearth_bench import write_bench

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tasks of every kind, with classes that pixels tell apart."""
    root = tmp_path_factory.mktemp("suite")
    write_task(root, "m-eurosat", (30, 12, 12), classes=3)
    write_task(root, "m-bigearthnet", (30, 12, 12))
    write_task(root, "m-pv4ger-seg", (16, 8, 8))
    return root


LAST = ("--blocks", 1)
"""Fewer candidates take less time."""
KNN = ("--protocols", "knn", *LAST)


def words(model: Path, suite: Path, out: Path, tasks: str, *more: object) -> list[object]:
    return [model, "--suite", "geobench1", "--data", suite, "--out", out, "--tasks", tasks, *more]


@pytest.mark.process
def test_the_command_writes_a_table_of_scores(model: Path, suite: Path, tmp_path: Path, command: Command) -> None:
    done = command(
        "mmae", "benchmark", *map(str, words(model, suite, tmp_path / "s.csv", "m-eurosat", "--k", 5, *LAST))
    )
    assert done.status == 0, done.err
    assert "names of bands are corrected" in done.out
    assert "left out of the model's modalities" not in done.out
    rows = read_rows(tmp_path / "s.csv")
    assert [row["decoder"] for row in rows] == ["knn", "linear"]
    for row in rows:
        assert tuple(row) == COLUMNS
        assert (row["dataset"], row["Metric"], row["backbone"]) == ("m-eurosat", "accuracy", "model")
        # Three classes differ in colour: even random weights tell them apart, and chance would be a third.
        assert float(row["test metric"]) > 0.9
        assert float(row["ci low"]) <= float(row["test metric"]) <= float(row["ci high"])
        expected = (float(row["test metric"]) - 0.907) / (0.985 - 0.907)
        assert float(row["normalised"]) == pytest.approx(expected, rel=1e-4)
        assert (row["train samples"], row["test samples"], row["data_percentages"]) == ("30", "12", "100")
        assert float(row["seconds"]) > 0
        assert float(row["peak memory MB"]) > 0
    assert float(rows[0]["tiles/s"]) > 0
    # The second protocol found all features on disk.
    assert rows[1]["tiles/s"] == ""


def test_finished_rows_are_kept_and_not_computed_again(
    model: Path, suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "s.csv"
    both = words(
        model, suite, out, "m-eurosat", "--k", 5, "--partitions", "default,0.50x_train", "--seeds", "0,1", *KNN
    )
    assert benchmark(*both) == 0
    whole = out.read_bytes()
    assert len(read_rows(out)) == 4
    capsys.readouterr()
    assert benchmark(*both) == 0
    assert capsys.readouterr().out.count("nothing to do") == 2
    assert out.read_bytes() == whole
    # One row is lost, and comes back with the same scores.
    lines = whole.decode().splitlines()
    out.write_text("\n".join([*lines[:2], *lines[3:]]) + "\n")
    assert benchmark(*both) == 0
    timed = {"seconds", "tiles/s", "peak memory MB"}
    kept = {(row["partition name"], row["Seed"]): row for row in csv_rows(whole)}
    for row in read_rows(out):
        old = kept[row["partition name"], row["Seed"]]
        assert {key: row[key] for key in COLUMNS if key not in timed} == {
            key: old[key] for key in COLUMNS if key not in timed
        }


def test_other_data_under_the_same_name_are_scored_anew(model: Path, tmp_path: Path) -> None:
    """Neither a row nor vectors of the labels and pixels that lay there before are taken."""
    out, root = tmp_path / "s.csv", tmp_path / "suite"
    folder = write_task(root, "m-eurosat", (30, 12, 12), classes=3)
    said = words(model, root, out, "m-eurosat", "--k", 5, *KNN)
    assert benchmark(*said) == 0
    table = json.loads((folder / "label_map.json").read_text())
    # Half of the samples of a class are said to be of another.
    table["1"], table["2"] = table["1"] + table["2"][::2], table["2"][1::2]
    (folder / "label_map.json").write_text(json.dumps(table))
    assert benchmark(*said) == 0
    first, second = read_rows(out)
    assert first["data"] != second["data"]
    assert float(first["test metric"]) == 1 > float(second["test metric"])


def test_a_leak_check_is_added_to_finished_rows(
    model: Path, suite: Path, tmp_path: Path, synthetic_shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "s.csv"
    said = words(model, suite, out, "m-eurosat", "--k", 5, *KNN)
    assert benchmark(*said) == 0
    (before,) = read_rows(out)
    assert benchmark(*said, "--pretraining", synthetic_shards) == 0
    (after,) = read_rows(out)
    assert (before["places known"], after["places known"], after["near pretraining"]) == ("", "12", "0")
    assert {key for key in COLUMNS if before[key] != after[key]} == {"places known", "near pretraining"}
    assert "0 of 12 samples with a known place" in capsys.readouterr().out


@pytest.mark.process
def test_two_processes_give_the_same_vectors_and_scores(model: Path, suite: Path, tmp_path: Path) -> None:
    scores = []
    for processes in (1, 2):
        out = tmp_path / f"{processes}.csv"
        assert benchmark(*words(model, suite, out, "m-eurosat", "--k", 5, "--processes", processes, *LAST)) == 0
        scores.append([(row["test metric"], row["ci low"], row["val metric"], row["choice"]) for row in read_rows(out)])
        assert float(read_rows(out)[0]["tiles/s"]) > 0
    assert scores[0] == scores[1]
    stored = sorted((tmp_path / "1.csv.features").rglob("*.npz"))
    assert len(stored) == 3
    for path in stored:
        other = load_arrays(tmp_path / "2.csv.features" / path.relative_to(tmp_path / "1.csv.features"))
        assert all(np.array_equal(array, other[key]) for key, array in load_arrays(path).items())


def csv_rows(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode())))


def test_other_models_and_settings_have_rows_of_their_own(model: Path, suite: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.csv"
    other = write_model(tmp_path / "other", ("rgb",))
    for chosen, k in ((model, 5), (model, 3), (other, 3)):
        assert benchmark(*words(chosen, suite, out, "m-eurosat", "--k", k, "--protocols", "knn")) == 0
    assert [(row["backbone"], row["protocol"].split()[-2]) for row in read_rows(out)] == [
        ("model", "k=5"), ("model", "k=3"), ("other", "k=3")
    ]  # fmt: skip


def test_several_labels_are_scored_by_f1_and_average_precision(model: Path, suite: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.csv"
    assert benchmark(*words(model, suite, out, "m-bigearthnet", "--k", 5, *KNN)) == 0
    rows = read_rows(out)
    assert [row["Metric"] for row in rows] == ["micro_f1"]
    assert all("micro_map=" in row["other metrics"] for row in rows)
    assert all(0 < float(row["test metric"]) < 1 for row in rows)


def test_pixels_are_scored_by_heads_that_learn_them(model: Path, suite: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.csv"
    more = ("--epochs", 12, "--lr", 0.01, "--head-width", 16, "--seeds", "0,1")
    assert benchmark(*words(model, suite, out, "m-pv4ger-seg", *more)) == 0
    rows = read_rows(out)
    assert [(row["decoder"], row["Seed"]) for row in rows] == [
        ("linear-seg", "0"), ("linear-seg", "1"), ("upernet", "0"), ("upernet", "1")
    ]  # fmt: skip
    for row in rows:
        assert row["Metric"] == "miou"
        # One class everywhere would reach at most a half.
        assert float(row["test metric"]) > 0.6, row["decoder"]
        assert row["lr"] == "0.01"
    assert rows[2]["test metric"] != rows[3]["test metric"]


def test_a_seed_decides_a_head_whatever_memory_allows(model: Path, suite: Path, tmp_path: Path) -> None:
    scores = []
    for number, memory in enumerate((4, 0)):
        out = tmp_path / f"{number}.csv"
        more = ("--epochs", 2, "--protocols", "linear-seg", "--memory-gb", memory)
        assert benchmark(*words(model, suite, out, "m-pv4ger-seg", *more)) == 0
        scores.append(read_rows(out)[0]["test metric"])
    assert scores[0] == scores[1]


def test_mmearth_bench_has_two_tests(model: Path, tmp_path: Path) -> None:
    for task in ("biomass", "soil_pH", "species"):
        write_bench(tmp_path / "bench", task, tiles=48)
    out = tmp_path / "s.csv"
    said = [model, "--suite", "mmearth-bench", "--data", tmp_path / "bench", "--out", out, *LAST]
    assert benchmark(*said, "--tasks", "soil_pH", "--k", 5) == 0
    assert benchmark(*said, "--tasks", "species", "--k", 5, "--protocols", "knn") == 0
    heads = ("--protocols", "linear-seg", "--epochs", 40, "--lr", 0.02)
    assert benchmark(*said, "--tasks", "biomass", *heads) == 0
    rows = {(row["dataset"], row["decoder"], row["test split"]): row for row in read_rows(out)}
    assert len(rows) == 8
    for test in ("random_test", "geographic_test"):
        # Labels deviate by 2.9 and by 29 from their mean, which is the error of a constant.
        assert float(rows["soil_pH", "linear", test]["test metric"]) < 0.5
        assert float(rows["biomass", "linear-seg", test]["test metric"]) < 15
        assert float(rows["species", "knn", test]["test metric"]) > 0.9
        assert rows["species", "knn", test]["Metric"] == "macro_map"
        assert rows["species", "knn", test]["normalised"] == ""


def test_bands_that_are_missing_leave_a_modality_out_unless_others_are_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_model(tmp_path / "model", ("rgb", "ebands", "sentinel1"))
    write_task(tmp_path / "suite", "m-so2sat", (12, 6, 6), classes=2)
    write_task(tmp_path / "suite", "m-forestnet", (12, 6, 6), classes=2)
    more = ("--protocols", "knn", "--k", 3)
    out = tmp_path / "s.csv"
    assert benchmark(*words(model, tmp_path / "suite", out, "m-so2sat,m-forestnet", *more)) == 0
    said = capsys.readouterr().out
    assert "m-so2sat: left out of the model's modalities: sentinel1 (it also needs asc HH" in said
    assert "m-forestnet: left out of the model's modalities: ebands (it also needs B8A), sentinel1" in said
    substitutes = ("--substitute", "sentinel1=none", "--substitute", "B8A=B8")
    assert benchmark(*words(model, tmp_path / "suite", out, "m-so2sat,m-forestnet", *more, *substitutes)) == 0
    said = capsys.readouterr().out
    assert "B8A is missing, and B8 is taken for it, as --substitute asks" in said
    assert [row["modalities"] for row in read_rows(out)] == [
        "rgb ebands", "rgb", "rgb ebands sentinel1", "rgb ebands"
    ]  # fmt: skip


def test_samples_without_data_are_left_out_and_counted(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = tmp_path / "suite", tmp_path / "s.csv"
    tasks = {"m-eurosat": ("linear", LAST), "m-cashew-plant": ("linear-seg", ("--epochs", 1))}
    for task, (protocol, more) in tasks.items():
        folder = write_task(data, task, (12, 6, 6), classes=2)
        for number in (3, 14, 19, 22):
            _without_data(folder / f"sample_{number:04d}.hdf5")
        assert benchmark(*words(model, data, out, task, "--protocols", protocol, *more)) == 0
        assert "left out, as no input holds data: 1 of train, 1 of valid, 2 of test" in capsys.readouterr().out
    for row in read_rows(out):
        assert (row["train samples"], row["test samples"], row["test without data"]) == ("11", "4", "2")
    for number in range(18, 24):
        _without_data(folder / f"sample_{number:04d}.hdf5")
        _without_data(data / "classification_v1.0" / "m-eurosat" / f"sample_{number:04d}.hdf5")
    for task, (protocol, more) in tasks.items():
        assert benchmark(*words(model, data, out, task, "--protocols", protocol, *more)) == 2
        one_line(capsys, f"{task}, default: no sample of split test holds data in any input of the model")


def _without_data(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        for name in set(file) - {"label"}:
            file[name][:] = 0


def one_line(capsys: pytest.CaptureFixture[str], says: str) -> None:
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_bad_input_is_one_line_and_keeps_rows(
    model: Path, suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "s.csv"
    few = ("--protocols", "knn")
    assert benchmark(*words(model, suite, out, "m-eurosat", "--k", 5, *few)) == 0
    kept = out.read_bytes()
    capsys.readouterr()
    broken = tmp_path / "broken"
    write_task(broken, "m-eurosat", classes=1)
    (write_task(broken, "m-bigearthnet") / "sample_0003.hdf5").unlink()
    bare = write_task(broken, "m-SA-crop-type", (8, 3, 3), classes=2)
    for number in range(8, 11):
        with h5py.File(bare / f"sample_{number:04d}.hdf5", "r+") as file:
            file["label"][:] = 255
    odd = write_task(broken, "m-pv4ger", (12, 6, 6))
    with h5py.File(odd / "sample_0007.hdf5", "r+") as file:
        for name in ("Red", "Green", "Blue"):
            pixels = np.full((20, 20), 9, np.uint8)
            del file[name]
            file[name] = pixels
    radar = write_model(tmp_path / "radar", ("sentinel1",))
    diverged = write_model(tmp_path / "diverged", ("rgb",), float("nan"))
    cases: list[tuple[list[object], str]] = [
        (words(model, suite, out, "m-eurosta"), "--tasks: 'm-eurosta' is not known; did you mean 'm-eurosat'?"),
        (words(model, suite, out, "m-so2sat"), "is no folder: task m-so2sat of GEO-Bench v1 is to lie there"),
        (words(model, broken, out, "m-bigearthnet"), "1 of the 24 samples of default_partition.json have no file"),
        (words(model, broken, out, "m-eurosat"), "all 12 training samples of partition default have the same label"),
        (words(model, suite, out, "m-eurosat", "--k", 50, *few), "kNN with k 50: only 30 rows"),
        (
            words(model, broken, out, "m-SA-crop-type", "--protocols", "linear-seg"),
            "no pixel of the validation samples",
        ),
        (words(model, broken, out, "m-pv4ger", "--k", 3, *few), "several sizes"),
        (words(model, suite, out, "m-eurosat", "--k", 3, "--processes", 999), "--processes 999: give 1 to"),
        (words(radar, suite, out, "m-eurosat"), "m-eurosat"),
        (words(diverged, suite, out, "m-eurosat", "--k", 5), "not finite"),
        (words(diverged, suite, out, "m-pv4ger-seg"), "not finite"),
        (words(model, suite, out, "m-eurosat", "--partitions", "0.10x_train"), "no partition '0.10x_train'"),
        (words(model, suite, out, "m-eurosat", "--substitute", "B8A"), "write BAND=BAND"),
        (words(model, suite, out, "m-eurosat", "--window", 6), "--window 6: must be a multiple"),
        (words(model, suite, out, "m-eurosat", "--blocks", 7), "--blocks 7: this encoder has 2 blocks"),
        (words(model, suite, out, "m-pv4ger-seg", "--normalise", "model"), "8-bit pictures have no units"),
        (words(model, suite, suite, "m-eurosat"), "cannot be read"),
        (words(model, tmp_path / "none", out, "m-eurosat"), "is no folder"),
    ]
    for case, says in cases:
        assert benchmark(*case) == 2, says
        one_line(capsys, says)
        assert out.read_bytes() == kept, says


def test_a_head_that_diverges_is_no_score(
    model: Path, suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = Targets.loss
    monkeypatch.setattr(Targets, "loss", lambda *said: loss(*said) * torch.inf)
    assert benchmark(*words(model, suite, tmp_path / "s.csv", "m-pv4ger-seg", "--protocols", "linear-seg")) == 2
    one_line(capsys, "m-pv4ger-seg, linear-seg: the loss is not finite in epoch 1: say a smaller --lr than 0.001")
    assert not (tmp_path / "s.csv").exists()


def test_a_disk_without_room_is_said_before_tiles_are_read(
    model: Path, suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmae.disk.free_space.shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    monkeypatch.setattr(TileFeatures, "chunk", pytest.fail)
    assert benchmark(*words(model, suite, tmp_path / "s.csv", "m-eurosat", *KNN)) == 2
    one_line(capsys, "s.csv.features: 0.0 MB are free and")


def test_rows_before_an_error_stay(model: Path, suite: Path, tmp_path: Path) -> None:
    """Opening finds most errors before the first row; what lies in a test's last file is met later."""
    root = tmp_path / "suite"
    write_task(root, "m-eurosat", (30, 12, 12), classes=3)
    folder = write_task(root, "m-bigearthnet")
    damaged = folder / f"{json.loads((folder / 'default_partition.json').read_text())['test'][-1]}.hdf5"
    damaged.write_bytes(damaged.read_bytes()[:100])
    out = tmp_path / "s.csv"
    assert benchmark(*words(model, root, out, "m-eurosat,m-bigearthnet", "--k", 5, "--protocols", "knn")) == 2
    assert [row["dataset"] for row in read_rows(out)] == ["m-eurosat"]


def test_digital_numbers_in_other_units_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], model: Path
) -> None:
    folder = write_task(tmp_path / "suite", "m-SA-crop-type")
    for path in folder.glob("*.hdf5"):
        with h5py.File(path, "r+") as file:
            for name in file:
                if name != "label":
                    pixels = file[name][()] / 10_000
                    del file[name]
                    file[name] = pixels
    assert benchmark(*words(model, tmp_path / "suite", tmp_path / "s.csv", "m-SA-crop-type")) == 2
    one_line(capsys, "m-SA-crop-type")
