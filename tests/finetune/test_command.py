"""`mmae finetune` as a whole, on a small set of noise: every kind of task, what it leaves, resume, and refusals."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mmae.cli import main
from mmae.data.shards.index import Index
from mmae.run.layout import newest_first
from tests.support.tuning_case import label_csv, labelled_set, tuning_words

pytestmark = pytest.mark.process


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return labelled_set(tmp_path)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a start in this process sets is undone."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def finetune(folder: Path, index: Index, *overrides: str, options: tuple[str, ...] = ()) -> int:
    return main(["finetune", *tuning_words(folder, index, *overrides), *options])


def last_line(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    out = capsys.readouterr().out.strip().splitlines()
    parsed: dict[str, Any] = json.loads(out[-1])
    return parsed


def records(run: Path, kind: str) -> list[dict[str, Any]]:
    return [each for each in map(json.loads, (run / "log.jsonl").read_text().splitlines()) if each["kind"] == kind]


def weights(run: Path) -> dict[str, torch.Tensor]:
    checkpoint = newest_first(run / "checkpoints")[0]
    files = sorted(path for path in checkpoint.iterdir() if path.suffix == ".safetensors")
    return {f"{path.name}/{name}": tensor for path in files for name, tensor in load_file(path).items()}


def test_a_segmentation_leaves_a_model_scores_and_maps(
    tmp_path: Path, index: Index, capsys: pytest.CaptureFixture[str]
) -> None:
    assert finetune(tmp_path, index) == 0
    run, line = tmp_path / "run", last_line(capsys)
    assert (line["step"], line["run_dir"]) == (6, str(run))
    assert set(line["test"]) >= {"accuracy", "balanced_accuracy", "miou"}
    results = json.loads((run / "results.json").read_text())
    assert results["test"]["tiles"] == 5
    assert sum(map(sum, results["test"]["confusion"])) == results["test"]["known_labels"]
    assert {path.name for path in (run / "predictions").iterdir()} == {
        "confusion.png", *(f"tile-{row}.tif" for row in range(30, 35))
    }  # fmt: skip
    assert (run / "pictures" / "samples.png").is_file()
    assert [each["step"] for each in records(run, "val")] == [3, 6]
    assert len(records(run, "test")) == 1
    from mmae.model.saved.saved_model import load_saved

    saved, model = load_saved(run / "model")
    assert saved.tuned is not None
    assert saved.tuned.task.name == "esa_worldcover"
    outputs = model({"rgb": torch.zeros(1, 3, 16, 16), "ired": torch.zeros(1, 3, 16, 16)})
    assert outputs.shape == (1, 11, 16, 16)
    # A run that has ended is not scored again.
    before = (run / "results.json").stat().st_mtime_ns
    assert finetune(tmp_path, index) == 0
    assert last_line(capsys)["test"] == line["test"]
    assert (run / "results.json").stat().st_mtime_ns == before
    assert len(records(run, "test")) == 1
    assert main(["status", str(run)]) == 0
    assert "finished" in capsys.readouterr().out


KINDS = {
    "classification": ("model.head=linear", "task.target=kind", "train.mixup=0.5", "task.label_smoothing=0.1"),
    "multilabel": ("model.head=attention", "train.cutmix=1.0", "train.precision=bf16"),
    "regression": ("model.head=linear", "task.target=elevation", "train.random_erase=0.5"),
    "pixel_regression": ("task.target=elevation", "task.regression_loss=berhu", "train.cutmix=1.0", "train.ema=0.9"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_task_learns_and_is_scored(
    kind: str, tmp_path: Path, index: Index, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"task.kind={kind}", *KINDS[kind]]
    if kind == "classification":
        words.append(f"task.labels={label_csv(tmp_path / 'labels.csv', index)}")
    assert finetune(tmp_path, index, *words) == 0
    line = last_line(capsys)
    assert None not in line["test"].values()
    predictions = tmp_path / "run" / "predictions"
    if kind == "pixel_regression":
        assert len(list(predictions.glob("*.tif"))) == 5
        return
    from pyarrow import parquet

    table = parquet.read_table(predictions / "test.parquet").to_pydict()
    assert table["key"] == [f"tile-{row}" for row in range(30, 35)]
    if kind == "classification":
        right = [said == true for said, true in zip(table["prediction"], table["label"], strict=True)]
        assert sum(right) / 5 == pytest.approx(line["test"]["accuracy"])
    if kind == "regression":
        errors = [abs(a - b) for a, b in zip(table["prediction elevation"], table["label elevation"], strict=True)]
        assert sum(errors) / 5 == pytest.approx(line["test"]["mae"], rel=1e-5)


def test_a_run_that_stopped_and_went_on_equals_one_that_never_stopped(tmp_path: Path, index: Index) -> None:
    words = ("train.cutmix=1.0", "train.random_erase=0.5", "train.ema=0.9", "model.drop_path=0.3", "val.every=2")
    assert finetune(tmp_path / "a", index, *words) == 0
    for stop in ("train.stop_at=1", "train.stop_at=3", "train.stop_at=4"):
        assert finetune(tmp_path / "b", index, *words, stop, "checkpoint.every=100") == 0
        assert not (tmp_path / "b" / "run" / "results.json").exists()
    assert finetune(tmp_path / "b", index, *words) == 0
    one, other = weights(tmp_path / "a" / "run"), weights(tmp_path / "b" / "run")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    losses = [[(each["step"], each["loss"]) for each in records(tmp_path / run / "run", "train")] for run in "ab"]
    assert losses[0] == losses[1]
    scores = [json.loads((tmp_path / run / "run" / "results.json").read_text())["test"] for run in "ab"]
    assert scores[0] == scores[1]


def test_accumulation_changes_no_loss_and_no_score(tmp_path: Path, index: Index) -> None:
    words = ("train.cutmix=1.0", "model.drop_path=0.3", "task.class_weights=balanced")
    for name, micro in (("a", 8), ("b", 2)):
        assert finetune(tmp_path / name, index, *words, f"train.micro_batch={micro}") == 0
    one, other = ([each["loss"] for each in records(tmp_path / run / "run", "train")] for run in "ab")
    assert other == pytest.approx(one, abs=1e-5)
    scores = [json.loads((tmp_path / run / "run" / "results.json").read_text())["test"]["confusion"] for run in "ab"]
    assert scores[0] == scores[1]


def test_a_search_chooses_and_seeds_are_summed_up(
    tmp_path: Path, index: Index, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("finetune.search=2", "finetune.seeds=2", "train.max_steps=2", "val.every=0")
    assert finetune(tmp_path, index, *words) == 0
    line, run = last_line(capsys), tmp_path / "run"
    assert line["test"]["miou"]["half_width"] is not None
    results = json.loads((run / "results.json").read_text())
    assert (len(results["search"]), results["seeds"]) == (2, [0, 1])
    for trial in (run / "search").iterdir():
        assert "test" not in json.loads((trial / "results.json").read_text())
        assert not (trial / "predictions").exists()
    assert {path.name for path in (run / "seeds").iterdir()} == {"seed_0", "seed_1"}
    before = {path: path.stat().st_mtime_ns for path in run.rglob("results.json") if path.parent != run}
    assert finetune(tmp_path, index, *words) == 0
    assert before == {path: path.stat().st_mtime_ns for path in before}
    capsys.readouterr()
    # Trainings that have ended would keep the old value.
    assert finetune(tmp_path, index, *words, "train.blr=0.5") == 2
    assert "train.blr cannot change in a search or with several seeds" in capsys.readouterr().err


def test_a_trial_that_loses_its_numbers_does_not_end_the_search(
    tmp_path: Path, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmae.finetune.repeats.pairs", lambda *_: [(1e30, 0.75), (0.01, 0.75)])
    words = ("finetune.search=2", "train.max_steps=2", "val.every=0", "train.max_bad_steps=1", "train.warmup_steps=0")
    assert finetune(tmp_path, index, *words) == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert [each["miou"] is None for each in results["search"]] == [True, False]
    assert results["blr"] == 0.01


def test_no_better_score_for_long_ends_the_training(tmp_path: Path, index: Index) -> None:
    words = ("val.every=1", "val.patience=2", "train.blr=0", "train.max_steps=50")
    assert finetune(tmp_path, index, *words) == 0
    run = tmp_path / "run"
    results = json.loads((run / "results.json").read_text())
    assert (results["step"], results["best_step"]) == (3, 1)
    assert records(run, "end")[-1]["why"] == "finished"


def test_fresh_archives_the_run(tmp_path: Path, index: Index) -> None:
    assert finetune(tmp_path, index, "train.max_steps=2") == 0
    assert finetune(tmp_path, index, "train.max_steps=2", "train.seed=9", options=("--fresh",)) == 0
    (archive,) = (tmp_path / "run").glob("aside-*")
    assert {"results.json", "model", "log.jsonl", "checkpoints"} <= {path.name for path in archive.iterdir()}
    assert json.loads((tmp_path / "run" / "results.json").read_text())["seed"] == 9


def test_a_stop_file_saves_and_says_how_to_go_on(
    tmp_path: Path, index: Index, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock-dummy").touch()
    announced: list[Any] = []
    monkeypatch.setattr("mmae.engine.operators.op_build.announce_builds", announced.append)
    assert finetune(tmp_path, index, "train.stop_at=2") == 0
    assert announced
    (tmp_path / "run" / "stop").touch()
    capfd.readouterr()
    assert finetune(tmp_path, index) == 0
    said = capfd.readouterr()
    assert "the file stop" in said.err
    assert not (tmp_path / "run" / "stop").exists()
    assert not (tmp_path / "run" / "results.json").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("task.target=esa_worldcove",), "no labels 'esa_worldcove' (task.target); did you mean 'esa_worldcover'?"),
        (("task.target=elevation",), "task.target=elevation does not fit task.kind=segmentation: use regression"),
        (("task.target=dynamic_world",), "no dataset 'dynamic_world', which task.target=dynamic_world needs"),
        (("data.val_split=dev",), "no tile in split 'dev' (data.val_split)"),
        (("model.in_domains=[rgb,semseg]",), "model.in_domains names semseg, which holds the labels"),
        (("model.in_domains=[sentinel1]",), "no dataset for the inputs sentinel1"),
        (("model.init_from=/nowhere/model",), "/nowhere/model does not exist"),
        (("data.shards=/nowhere",), "/nowhere: no such folder"),
        (("model.patch_size=32",), "tiles of 16x16 pixels are smaller than a patch of 32: set model.patch_size"),
        (
            ("train.mixup=0.5", "task.kind=regression", "task.target=elevation", "model.head=linear"),
            "train.mixup mixes labels of tiles",
        ),
        (("train.blr=1e30", "train.max_bad_steps=2"), "lost numbers: 2 steps in a row"),
    ],
)
def test_bad_input_is_one_line(
    words: tuple[str, ...], said: str, tmp_path: Path, index: Index, capfd: pytest.CaptureFixture[str]
) -> None:
    status = finetune(tmp_path, index, *words)
    told = capfd.readouterr().err
    assert status == (3 if said.startswith("lost") else 2), told
    assert said in told
    assert "Traceback" not in told
    if status == 2:
        assert not (tmp_path / "run").exists()


def test_what_decides_the_weights_cannot_change_on_resume(
    tmp_path: Path, index: Index, capfd: pytest.CaptureFixture[str]
) -> None:
    assert finetune(tmp_path, index, "train.stop_at=2") == 0
    stats = tmp_path / "other.json"
    stats.write_text(json.dumps({**index.band_stats, "aster": {"mean": [1.0, 0.0], "std": [2.0, 1.0]}}))
    for word, said in {
        "train.seed=4": "train.seed is 0 in this run, and 4 now",
        "train.max_steps=1": "is beyond the last step, train.max_steps=1",
        f"data.band_stats={stats}": f"was trained with other band statistics: set data.band_stats={tmp_path}",
    }.items():
        assert finetune(tmp_path, index, word) == 2
        assert said in capfd.readouterr().err
    assert newest_first(tmp_path / "run" / "checkpoints")[0].name == "global_step2"


def test_resume_goes_on_from_a_checkpoint_elsewhere(
    tmp_path: Path, index: Index, capfd: pytest.CaptureFixture[str]
) -> None:
    keep = "checkpoint.keep_last=9"
    assert finetune(tmp_path / "a", index, keep) == 0
    run, whole = tmp_path / "a" / "run", weights(tmp_path / "a" / "run")
    results = json.loads((run / "results.json").read_text())
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    earlier = ("--resume", str(run / "checkpoints" / "global_step2"))
    assert finetune(tmp_path / "b", index, keep, options=earlier) == 0
    assert before == {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    own = tmp_path / "b" / "run"
    assert [each["step"] for each in records(own, "train")] == [3, 4, 5, 6]
    assert all(torch.equal(tensor, whole[name]) for name, tensor in weights(own).items())
    assert json.loads((own / "results.json").read_text())["test"] == results["test"]
    # In its own folder, what came later is archived: no score of later steps stays behind.
    assert finetune(tmp_path / "a", index, keep, "train.stop_at=3", options=earlier) == 0
    assert not (run / "results.json").exists()
    assert not (run / "model").exists()
    (archive,) = run.glob("aside-*")
    assert {"results.json", "model", "predictions"} <= {path.name for path in archive.iterdir()}
    capfd.readouterr()
    for words, options, said in (
        ((), ("--resume", str(tmp_path / "nowhere")), "neither a checkpoint (global_stepN) nor a run folder"),
        ((), (*earlier, "--fresh"), "--resume and --fresh contradict each other"),
        (("finetune.seeds=2",), earlier, "--resume goes on with one training"),
        (("train.seed=3",), earlier, "train.seed is 0 in this run, and 3 now"),
    ):
        assert finetune(tmp_path / "c", index, *words, options=options) == 2
        assert said in capfd.readouterr().err
    assert not (tmp_path / "c").exists()


def test_out_of_memory_says_what_to_try(
    tmp_path: Path, index: Index, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("tried to allocate 9 GB")

    monkeypatch.setattr("mmae.finetune.training.tuning_loop.tuning_step", full)
    assert finetune(tmp_path, index) == 2
    said = capfd.readouterr().err
    assert "out of memory" in said
    assert "try in this order: train.micro_batch=4, model.tuning=lora, model.tuning=frozen" in said
    assert "Traceback" not in said


def test_a_disk_that_is_full_at_the_end_costs_no_training(
    tmp_path: Path, index: Index, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patched:
        patched.setattr("mmae.finetune.tuning_results.write_whole", full)
        assert finetune(tmp_path, index, "train.max_steps=2") == 2
    said = capfd.readouterr().err
    assert "results.json: cannot be written (No space left on device): make room" in said
    assert "training is not repeated" in said
    assert finetune(tmp_path, index, "train.max_steps=2") == 0
    assert len(records(tmp_path / "run", "train")) == 2
    assert (tmp_path / "run" / "results.json").exists()


@pytest.mark.parametrize("tuning", ["lora", "frozen"])
def test_a_fine_tuned_model_is_tuned_again_for_another_task(
    tuning: str, tmp_path: Path, index: Index, capfd: pytest.CaptureFixture[str]
) -> None:
    """With other bands, another size of patches, and an encoder that changes little or not at all."""
    assert finetune(tmp_path / "a", index, "train.max_steps=2") == 0
    source = tmp_path / "a" / "run" / "model"
    words = (f"model.init_from={source}", f"model.tuning={tuning}", "model.in_domains=null", "model.lora_rank=2",
             "model.bands=[rgb:B4,rgb:B3,rgb:B8]", "model.patch_size=4", "model.head=linear", "task.kind=regression",
             "task.target=elevation")  # fmt: skip
    assert finetune(tmp_path / "b", index, *words, "train.stop_at=3") == 0
    said = capfd.readouterr().err
    assert "input rgb: B4, B3, B8 (reflectance x 10000)" in said
    assert "patches of 4" in said
    assert finetune(tmp_path / "b", index, *words) == 0
    run = tmp_path / "b" / "run"
    from mmae.model.saved.saved_model import load_saved

    saved, _ = load_saved(run / "model")
    assert saved.tuned is not None
    assert saved.tuned.bands == {"rgb": ("B4", "B3", "B8")}
    before, after = load_file(source / "model.safetensors"), load_file(run / "model" / "model.safetensors")
    shared = [name for name in before if name.startswith("encoder.blocks") and before[name].shape == after[name].shape]
    changed = [name for name in shared if not torch.equal(before[name], after[name])]
    assert shared
    assert bool(changed) == (tuning == "lora")
