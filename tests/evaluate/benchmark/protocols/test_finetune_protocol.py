"""Rows of `mmae finetune`: which commands are started for which rows, and what is made of what they leave."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from mmae.evaluate.benchmark.protocols import finetune_protocol
from mmae.evaluate.benchmark.protocols.dense_protocols import DenseProtocol
from tests.support.benchmark_model import benchmark, read_rows, write_model
from tests.support.commands import BIN
from tests.support.geobench_suite import write_task
from tests.support.mmearth_bench import write_bench

SHORT = (
    "train.max_steps=40", "train.warmup_steps=1", "train.global_batch=8", "train.micro_batch=8", "train.blr=0.02",
    "val.every=20", "data.workers=0", "log.wandb=false", "log.every=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("suite")
    write_task(root, "m-pv4ger-seg", (4, 2, 2))
    return root


class Started:
    """Stands for `mmae finetune`: it notes its words, and leaves what a run of a segmentation leaves."""

    def __init__(self) -> None:
        self.calls: list[dict[str, str]] = []
        self.status = 0
        self.ends = True
        # The third class is predicted, and no label has it.
        self.confusion = [[6, 2, 0], [0, 6, 2], [0, 0, 0]]

    def __call__(self, words: Sequence[str], ranks: int) -> int:
        said = dict(word.split("=", 1) for word in words if "=" in word)
        self.calls.append(said | {"recipe": words[1], "ranks": str(ranks)})
        if self.status == 0 and self.ends:
            self._leave(said)
        return self.status

    def _leave(self, said: Mapping[str, str]) -> None:
        run = Path(said["run.dir"])
        if said["finetune.search"] != "0":
            run = run / "seeds" / f"seed_{said['train.seed']}"
        (run / "model").mkdir(parents=True)
        (run / "model" / "config.json").write_text('{"model": {"in_domains": ["rgb"]}}')
        (run / "config.yaml").write_text("\n".join(f"{key}: {value}" for key, value in said.items()))
        (run / "log.jsonl").write_text('{"kind": "train", "step": 1, "peak_memory_gb": 0.25}\n')
        test = {"tiles": 2, "scores": {"miou": 0.3, "accuracy": 0.75}, "confusion": self.confusion}
        found = {"task": said["source.task"], "kind": "segmentation", "main": "miou", "best_step": 3,
                 "training_tiles": 4, "val": {"scores": {"miou": 0.5}}, "test": test}  # fmt: skip
        (run / "results.json").write_text(json.dumps(found))


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    fake = Started()
    monkeypatch.setattr(finetune_protocol, "run_finetune", fake)
    return fake


def words(model: Path, suite: Path, out: Path, *more: object) -> list[object]:
    said = [model, "--suite", "geobench1", "--data", suite, "--out", out, "--tasks", "m-pv4ger-seg"]
    return [*said, "--protocols", "finetune", *more]


def test_each_row_is_one_command_and_only_missing_rows_are_started(
    model: Path, suite: Path, tmp_path: Path, started: Started
) -> None:
    out = tmp_path / "s.csv"
    said = words(model, suite, out, "--seeds", "3,4", "--finetune", "train.global_batch=16", "--no-unit-check")
    assert benchmark(*said) == 0
    first, second = started.calls
    assert {key: first[key] for key in first if first[key] != second[key]}.keys() == {"run.dir", "train.seed"}
    assert first.items() >= {
        "recipe": "finetune_segmentation", "ranks": "1", "source.kind": "geobench1", "source.folder": str(suite),
        "source.task": "m-pv4ger-seg", "source.partition": "default", "model.init_from": str(model),
        "data.test_split": "test", "train.seed": "3", "data.check_units": "false", "train.global_batch": "16",
    }.items()  # fmt: skip
    assert Path(first["run.dir"]).parent == tmp_path / "s.csv.runs"
    row = read_rows(out)[0]
    # Over the two classes that the test holds: (6/8 + 6/10) / 2. The run's own number has the third one, too.
    assert (row["test metric"], row["other metrics"]) == ("0.675", "miou=0.3 accuracy=0.75")
    assert (row["decoder"], row["experiment_name"], row["choice"], row["val metric"]) == (
        "finetune", "finetune", "step 3", "0.5",
    )  # fmt: skip
    assert (row["batch_size"], row["lr"], row["modalities"], row["peak memory MB"]) == ("16", "3.125e-05", "rgb", "250")
    assert (row["ci low"], row["ci high"], row["tiles/s"]) == ("", "", "")
    kept = out.read_bytes()
    assert benchmark(*said) == 0
    assert (len(started.calls), out.read_bytes()) == (2, kept)
    # What does not change what is learnt may change on the way.
    assert benchmark(*said, "--finetune", "train.micro_batch=2", "--finetune", "log.wandb=false") == 0
    assert (len(started.calls), out.read_bytes()) == (2, kept)
    # Other settings are another row and another run, also where words hold several blanks.
    for _ in range(2):
        assert benchmark(*words(model, suite, out, "--search", 2, "--finetune", "model.blocks=[0,  1]")) == 0
    assert (len(started.calls), len(read_rows(out))) == (3, 3)
    assert (read_rows(out)[2]["n_trials"], started.calls[2]["finetune.search"]) == ("2", "2")


def test_a_command_that_does_not_end_well_leaves_no_row_and_goes_on_in_its_folder(
    model: Path, suite: Path, tmp_path: Path, started: Started, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "s.csv"
    said = words(model, suite, out)
    for started.status, started.ends, says in (
        (3, True, "ended with status 3"), (-9, True, "was ended by SIGKILL"), (0, False, "was asked to stop"),
    ):  # fmt: skip
        assert benchmark(*said) == 2
        error = capsys.readouterr().err
        assert says in error
        assert error.count("\n") == 1
        assert not out.exists()
    started.ends = True
    assert benchmark(*said) == 0
    assert len({call["run.dir"] for call in started.calls}) == 1
    # A table that is lost comes back from the run; results that are not its own do not.
    path = Path(started.calls[0]["run.dir"]) / "results.json"
    out.unlink()
    path.write_text(path.read_text().replace("m-pv4ger-seg", "m-cashew-plant"))
    started.ends = False
    assert benchmark(*said) == 2
    assert "results.json cannot be used (ValueError: it is of m-cashew-plant, test)" in capsys.readouterr().err


FAULTS: dict[str, tuple[str, ...]] = {
    "write KEY=VALUE": ("--finetune", "train.max_steps"),
    "unknown key 'train.max_step'; did you mean 'train.max_steps'": ("--finetune", "train.max_step=3"),
    "train.max_steps=0": ("--finetune", "train.max_steps=0"),
    "says which samples validate and test": ("--finetune", "data.test_fraction=0.2"),
    "--finetune model.init_from=none: this command sets": ("--finetune", "model.init_from=none"),
    "--finetune source.level=l1c: this command sets": ("--finetune", "source.level=l1c"),
    "--finetune finetune.seeds=3: this command sets": ("--finetune", "finetune.seeds=3"),
    "--search -1: must be at least 0": ("--search=-1",),
    "less than or equal to 64": ("--search", "65"),
    "--window is not for the protocol finetune": ("--window", "16"),
    "--offset is not for the protocol finetune": ("--offset=-1000",),
    "--substitute is not for the protocol finetune": ("--substitute", "B8A=B8"),
    "--search is for the protocol finetune": ("--protocols", "linear-seg", "--search", "2"),
    "--runs is for the protocol finetune": ("--protocols", "linear-seg", "--runs", "runs"),
}


@pytest.mark.parametrize("says", FAULTS)
def test_settings_that_do_not_fit_are_refused_before_anything_is_started(
    says: str, model: Path, suite: Path, tmp_path: Path, started: Started, capsys: pytest.CaptureFixture[str]
) -> None:
    assert benchmark(*words(model, suite, tmp_path / "s.csv", *FAULTS[says])) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert not started.calls
    assert not list(tmp_path.glob("s.csv*"))


def test_a_model_without_any_of_the_bands_is_refused_before_anything_is_started(
    suite: Path, tmp_path: Path, started: Started, capsys: pytest.CaptureFixture[str]
) -> None:
    radar = write_model(tmp_path / "radar", ("sentinel1",))
    assert benchmark(*words(radar, suite, tmp_path / "s.csv")) == 2
    assert "m-pv4ger-seg: the model takes none of its bands" in capsys.readouterr().err
    assert not started.calls


def test_without_being_asked_for_no_model_is_fine_tuned(
    model: Path, suite: Path, tmp_path: Path, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def no_scores(_: object, dense: DenseProtocol, seed: int) -> tuple[()]:
        tried.append(dense.name)
        return ()

    monkeypatch.setattr("mmae.evaluate.benchmark.benchmark_run.dense_scores", no_scores)
    said = [model, "--suite", "geobench1", "--data", suite, "--out", tmp_path / "s.csv", "--tasks", "m-pv4ger-seg"]
    assert benchmark(*said) == 0
    assert (tried, started.calls) == (["linear-seg", "upernet"], [])


def results_of(folder: Path, name: str) -> dict[str, Any]:
    (path,) = folder.glob(f"{name}-*/results.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.mark.slow
@pytest.mark.process
def test_rows_of_every_kind_say_what_their_runs_say(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_task(tmp_path / "geo", "m-eurosat", (16, 8, 8), classes=3)
    write_task(tmp_path / "geo", "m-bigearthnet", (16, 8, 8))
    write_task(tmp_path / "geo", "m-pv4ger-seg", (16, 8, 8))
    write_bench(tmp_path / "bench", "soil_pH", tiles=48)
    write_bench(tmp_path / "bench", "biomass", tiles=48)
    out, short = tmp_path / "s.csv", [word for key in SHORT for word in ("--finetune", key)]
    geo = [model, "--suite", "geobench1", "--data", tmp_path / "geo", "--out", out, "--protocols", "finetune", *short]
    geo += ["--tasks", "m-eurosat,m-bigearthnet,m-pv4ger-seg"]
    bench = [model, "--suite", "mmearth-bench", "--data", tmp_path / "bench", "--out", out, *short]
    bench += ["--tasks", "soil_pH,biomass", "--protocols", "finetune"]
    assert benchmark(*geo) == 0
    assert benchmark(*bench) == 0
    rows = read_rows(out)
    assert [row["Metric"] for row in rows] == ["accuracy", "micro_f1", "miou", "rmse", "rmse", "rmse", "rmse"]
    for row in rows:
        found = results_of(tmp_path / "s.csv.runs", f"{row['dataset']}-default-{row['test split']}-seed0")
        assert float(row["test metric"]) == pytest.approx(found["test"]["scores"][row["Metric"]], rel=1e-5)
        assert float(row["val metric"]) == pytest.approx(found["val"]["scores"][found["main"]], rel=1e-5)
        assert row["choice"] == f"step {found['best_step']}"
        assert found["test"]["tiles"] == int(row["test samples"])
        assert row["modalities"] == "rgb" if row["dataset"] == "m-pv4ger-seg" else "rgb sired"
        if row["ci low"]:
            assert float(row["ci low"]) <= float(row["test metric"]) <= float(row["ci high"])
    assert [bool(row["ci low"]) for row in rows] == [True, True, False, True, True, False, False]
    # Colours tell classes apart.
    assert float(rows[0]["test metric"]) > 0.8
    assert float(rows[2]["test metric"]) > 0.8
    kept = out.read_bytes()
    monkeypatch.setattr(finetune_protocol, "run_finetune", pytest.fail)
    assert benchmark(*geo) == 0
    assert benchmark(*bench) == 0
    assert out.read_bytes() == kept


@pytest.mark.slow
@pytest.mark.process
def test_an_interrupted_fine_tuning_goes_on(model: Path, tmp_path: Path) -> None:
    write_task(tmp_path / "geo", "m-eurosat", (16, 8, 8), classes=3)
    out = tmp_path / "s.csv"
    settings = [word for key in (*SHORT[1:], "train.max_steps=400") for word in ("--finetune", key)]
    said = [BIN / "mmae", "benchmark", model, "--suite", "geobench1", "--data", tmp_path / "geo", "--out", out,
            "--tasks", "m-eurosat", "--protocols", "finetune", *settings]  # fmt: skip
    with subprocess.Popen([*map(str, said)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        begun = time.monotonic()
        while not any(b'"train"' in log.read_bytes() for log in tmp_path.glob("s.csv.runs/*/log.jsonl")):
            assert process.poll() is None
            assert time.monotonic() - begun < 300
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate()
    assert process.returncode == 128 + signal.SIGINT, error.decode()
    assert b"Traceback" not in error
    assert not out.exists()
    done = subprocess.run([*map(str, said)], capture_output=True, check=False, env=dict(os.environ))
    assert done.returncode == 0, done.stderr.decode()
    assert b"resuming at step" in done.stderr
    (row,) = read_rows(out)
    assert float(row["test metric"]) > 0.8
