"""What a start of fine-tuning plans, and what it refuses before ranks meet."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from mmae.errors import InputError
from mmae.finetune.start.tuning_spec import check_packages, runs
from mmae.run.folder import RunFolder
from tests.support.tuning_case import label_csv, labelled_set, tuning_spec


def test_an_epoch_repeats_few_tiles_until_they_fill_a_batch(tmp_path: Path) -> None:
    index = labelled_set(tmp_path)
    spec = tuning_spec(tmp_path, index, "train.global_batch=32", "train.micro_batch=8")
    tiles = spec.tiles()
    assert tiles.mixture.num_slots == 36
    assert tiles.order(32).steps_per_epoch == 1
    assert tuning_spec(tmp_path, index).tiles().mixture.num_slots == 12


def test_other_labels_are_another_identity(tmp_path: Path) -> None:
    index = labelled_set(tmp_path)
    words = ("task.kind=classification", "model.head=linear", "task.target=kind")

    def identity(name: str, every: int, shift: int = 0) -> str:
        path = label_csv(tmp_path / name, index, lambda row: str((row + shift) % every))
        return tuning_spec(tmp_path, index, *words, f"task.labels={path}").labelled.identity

    assert identity("a.csv", 2) == identity("b.csv", 2)
    assert identity("a.csv", 2) != identity("c.csv", 3)
    # Classes that are as frequent, at other tiles.
    assert identity("a.csv", 2) != identity("d.csv", 2, 1)


def test_ranks_compare_recipe_shards_and_labels(tmp_path: Path) -> None:
    index = labelled_set(tmp_path)
    one, other = (runs(tuning_spec(tmp_path, index, f"train.seed={seed}")) for seed in (0, 1))
    assert {key for key in one if one[key] != other[key]} == {"recipe"}


def test_a_models_path_is_kept_for_a_start_in_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = labelled_set(tmp_path)
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    assert tuning_spec(tmp_path, index, "model.init_from=model").config.model.init_from == str(tmp_path / "model")
    assert tuning_spec(tmp_path, index, "model.init_from=owner/name").config.model.init_from == "owner/name"
    assert tuning_spec(tmp_path, index).config.model.init_from == "none"


def test_the_run_of_another_command_is_refused(tmp_path: Path) -> None:
    index = labelled_set(tmp_path)
    run = RunFolder(tmp_path / "run")
    run.write_recipe("model.decoder_dim: 32\n", {})
    with pytest.raises(InputError, match="holds a run of `mmae train`, not one of `mmae finetune`"):
        tuning_spec(tmp_path, index)
    run.write_recipe("task.target: biome\n", {})
    with pytest.raises(InputError, match="holds a run of `mmae finetune`: where its model is meant, name"):
        run.stored_config()


@pytest.mark.parametrize(
    ("missing", "kind", "test", "said"),
    [
        ("torchmetrics", "regression", False, "mmae[eval]"),
        ("rasterio", "segmentation", True, "mmae[geo]"),
        ("pyarrow", "classification", True, "mmae[geo]"),
        ("matplotlib", "classification", True, "mmae[pictures]"),
        ("matplotlib", "regression", True, ""),
        ("rasterio", "segmentation", False, ""),
    ],
)
def test_a_library_that_the_end_needs_is_missed_at_the_start(
    missing: str, kind: str, test: bool, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec

    def without(name: str, package: str | None = None) -> Any:
        return None if name == missing else found(name, package)

    monkeypatch.setattr("mmae.finetune.start.tuning_spec.find_spec", without)
    if not said:
        check_packages(kind, test)
        return
    with pytest.raises(InputError) as refused:
        check_packages(kind, test)
    assert said in str(refused.value)
    assert missing in str(refused.value)
