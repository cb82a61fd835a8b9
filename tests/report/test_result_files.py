"""Scores of other commands: what a file holds, and which files are those of a run."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

from mmae.cli import main
from mmae.evaluate.benchmark.result_rows import COLUMNS
from mmae.report.result_files import Results, found_results, read_results
from mmae.report.result_tables import constants_of
from tests.support.reported_run import write_run

PROBE = {
    "title": "mmae probe runs/run",
    "rows": [
        {"step": 7, "task": "elevation", "method": "ridge", "features": "encoder", "metric": "RMSE, m", "score": 184.0,
         "low": 60.0, "high": 318.0, "block": 3},
        {"step": 7, "task": "biome", "method": "kNN 20", "features": "encoder", "metric": "accuracy", "score": 0.9,
         "low": 0.66, "high": 1.0, "block": 3},
    ],
    "notes": ["of 5 scenes"],
}  # fmt: skip
BASELINE = [{"output": "rgb", "first": 0.9, "last": 0.1, "constant": 0.534}]
TUNED: dict[str, Any] = {
    "task": "cover", "kind": "segmentation", "main": "miou", "step": 9, "seed": 0, "training_tiles": 12,
    "val": {"split": "val", "tiles": 4, "scores": {"miou": 0.25, "accuracy": None}},
}  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "runs" / "run")


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def benchmark(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    row = dict.fromkeys(COLUMNS, "") | {"dataset": "m-eurosat", "Metric": "accuracy", "decoder": "linear", "Seed": "0",
                                        "test metric": "0.87", "ci low": "0.85", "ci high": "0.89"}  # fmt: skip
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerow(row)
    return path


def titles(run: Path) -> set[str]:
    return {each.title for each in found_results(run)}


def test_scores_in_a_run_and_those_beside_that_name_it_are_found(run: Path) -> None:
    beside = run.parent
    write(run / "scores" / "probe.json", PROBE)
    write(run / "baseline.json", BASELINE)
    benchmark(run / "scores" / "table.csv")
    write(beside / "probe.json", PROBE)
    write(beside / "other.json", {**PROBE, "title": "mmae probe runs/another"})
    tuned = write_run(beside / "tuned", model__init_from=str(run))
    write(tuned / "results.json", TUNED)
    write(write_run(beside / "elsewhere", model__init_from=str(beside / "another")) / "results.json", TUNED)
    assert titles(run) == {
        "mmae probe runs/run", "mmae baseline of this run: losses on normalised values", "mmae benchmark table.csv",
        "mmae finetune tuned",
    }  # fmt: skip
    assert len(found_results(run)) == 5
    assert len(found_results(run, [run / "scores" / "probe.json"])) == 4


def test_what_is_no_table_of_scores_is_left_out_without_a_word(run: Path) -> None:
    others: list[Any] = [{"rows": []}, {"rows": [1]}, [{"a": 1}], {"title": "loaders", "rows": [{"a": 1}]}]
    for number, content in enumerate(["{", "[]", "3", "[" * 100_000, *others, {"task": 1, "main": 2, "val": 3}]):
        write(run / f"{number}.json", content)
    write(run / "a.csv", "dataset,score\nx,1\n")
    (run / "b.csv").write_bytes(b"\xff\xfe")
    (run / "folder.json").mkdir()
    assert found_results(run) == []


def test_a_finetuning_has_a_row_for_each_score_and_intervals_over_seeds(tmp_path: Path) -> None:
    (row, unknown) = read_results(write(tmp_path / "one" / "results.json", TUNED)).rows
    assert row == {"task": "cover", "part": "val", "metric": "miou", "score": 0.25}
    assert unknown["score"] is None
    spread = {"mean": 0.5, "deviation": 0.1, "half_width": 0.2}
    several = {**TUNED, "seeds": [0, 1, 2], "test": {"tiles": 4, "scores": {"miou": spread}}}
    found = read_results(write(tmp_path / "three" / "results.json", several))
    assert (found.rows[-1]["score"], found.rows[-1]["low"], found.rows[-1]["high"]) == (0.5, 0.3, 0.7)
    assert found.notes == ["12 training tiles", "3 seeds: mean, and its 95 % interval over seeds"]


def test_metrics_with_other_units_never_stand_on_one_axis(run: Path, tmp_path: Path) -> None:
    write(run / "scores" / "probe.json", PROBE)
    benchmark(run / "scores" / "table.csv")
    assert main(["report", str(run), "--out", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    drawings = [each for each in re.findall(r"<svg.*?</svg>", page, re.DOTALL) if "with its interval" in each]
    assert [re.findall(r"<title>(.*?)</title>", each) for each in drawings] == [
        ["elevation: RMSE, m"], ["biome: accuracy"], ["m-eurosat: accuracy"]
    ]  # fmt: skip
    assert "encoder ridge step 7: 184 (60 to 318)" in drawings[0]
    assert ">300<" in drawings[0]
    assert ">300<" not in drawings[1]
    assert page.count("of 5 scenes") == 1


def test_constants_that_differ_between_runs_are_drawn_for_none() -> None:
    one, other = (Results("mmae baseline", [{"output": "rgb", "constant": each}], []) for each in (0.5, 0.6))
    assert constants_of([one, one]) == {"rgb": 0.5}
    assert constants_of([one, other]) == {}
