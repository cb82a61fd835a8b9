"""The folder for the leaderboard has the files, columns and keys that its checks ask for."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from mmae.evaluate.benchmark.leaderboard import write_submission
from mmae.evaluate.benchmark.result_rows import COLUMNS, LEADERBOARD

ROW = {
    **dict.fromkeys(COLUMNS, ""), "dataset": "m-eurosat", "Metric": "accuracy", "decoder": "linear",
    "backbone": "model", "n_trials": "264", "test metric": "0.9", "data_percentages": "100", "protocol": "blocks=auto",
}  # fmt: skip
KEYS = {
    "Paper Link", "Code Repository Link ", "License", "Number of HPO trials", "Additional information about submission",
    "Comments on new models in submission", "New model info",
}  # fmt: skip


def test_the_folder_has_the_leaderboards_layout(tmp_path: Path) -> None:
    rows = [{**ROW, "Seed": str(seed)} for seed in range(5)]
    notes = write_submission(tmp_path / "new" / "submission", rows, "model", 22_130_000)
    assert sorted(path.name for path in (tmp_path / "new" / "submission").iterdir()) == [
        "additional_info.json", "results_and_parameters.csv"
    ]  # fmt: skip
    with (tmp_path / "new" / "submission" / "results_and_parameters.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert tuple(found[0]) == (*LEADERBOARD, "frozen_or_full_ft")
    assert {(row["Metric"], row["batch_size_selection"], row["frozen_or_full_ft"]) for row in found} == {
        ("Overall_Accuracy", "fixed", "frozen")
    }
    said = json.loads((tmp_path / "new" / "submission" / "additional_info.json").read_text())
    assert set(said) == KEYS
    assert all(isinstance(said[key], str) for key in KEYS - {"New model info"})
    assert said["New model info"] == [
        {"model_display_name": "model", "model_size": "22.1M", "unique_backbone_key": "model"}
    ]
    assert len(notes) == 1


def test_rows_that_the_leaderboard_would_refuse_are_said(tmp_path: Path) -> None:
    rows = [{**ROW, "Seed": seed, "decoder": decoder} for seed in "01" for decoder in ("knn", "linear")]
    notes = write_submission(tmp_path / "submission", rows, "model", 1)
    assert "m-eurosat has 4 rows with 2 seeds" in notes[0]


def test_a_fine_tuned_row_says_what_was_trained(tmp_path: Path) -> None:
    settings = ("search=0", "search=0 model.tuning=lora", "model.tuning=lora model.tuning=full")
    rows = [{**ROW, "Seed": str(seed), "decoder": "finetune", "protocol": said} for seed, said in enumerate(settings)]
    write_submission(tmp_path / "submission", rows, "model", 1)
    with (tmp_path / "submission" / "results_and_parameters.csv").open(newline="") as file:
        assert [row["frozen_or_full_ft"] for row in csv.DictReader(file)] == ["full_ft", "lora", "full_ft"]
