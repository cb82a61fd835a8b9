"""A fine-tuning of several trainings: how far it is, which trial is best, and the interval over seeds."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from mmae.cli import main
from mmae.run.training_parts import read_whole, spread
from tests.support.tuning_case import tuning_config

WORDS = ("finetune.search=2", "finetune.seeds=3", "task.target=esa_worldcover")


def part(folder: Path, name: str, *words: str, end: str = "finished", **scores: float | None) -> None:
    """A trial or a seed of six steps. Without scores it has no results."""
    from mmae.config.finetune_checks import FINETUNING
    from mmae.run.folder import RunFolder, recipe_text

    path = folder / name
    RunFolder(path).write_recipe(recipe_text(tuning_config(*words), FINETUNING), {})
    train = {"step": 4, "loss": 2.5, "losses": {"esa_worldcover": 2.5}, "scored": {"esa_worldcover": 9.0}}
    records: list[tuple[str, dict[str, Any]]] = [("start", {"step": 0, "max_steps": 6, "stop": 6}), ("train", train)]
    records += [("end", {"step": 6, "why": end})] if end else []
    lines = [json.dumps({"kind": kind, "time": time.time(), **rest}) for kind, rest in records]
    (path / "log.jsonl").write_text("\n".join(lines) + "\n")
    if scores:
        found = {"main": "miou", **{split: {"scores": {"miou": value}} for split, value in scores.items()}}
        (path / "results.json").write_text(json.dumps(found))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two trials, the first of which lost its numbers, two seeds that have ended, and one that trains."""
    from mmae.config.finetune_checks import FINETUNING
    from mmae.run.folder import RunFolder, recipe_text

    RunFolder(tmp_path).write_recipe(recipe_text(tuning_config(*WORDS), FINETUNING), {})
    part(tmp_path, "search/trial_0", "train.blr=0.5", end="lost numbers")
    part(tmp_path, "search/trial_1", "train.blr=0.25", val=0.125)
    part(tmp_path, "seeds/seed_0", val=0.5, test=0.25)
    part(tmp_path, "seeds/seed_1", val=0.75, test=0.5)
    return tmp_path


def test_status_shows_the_whole(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(run)]) == 0
    assert f"{run}: between two trainings" in capsys.readouterr().out
    part(run, "seeds/seed_2", end="")
    assert main(["status", str(run)]) == 0
    out = capsys.readouterr().out
    for words in (
        f"{run}: training\n", "2 of 2 trials have ended, the best so far is trial_1: miou 0.125",
        "2 of 3 have ended", "test        miou 0.375 ± 1.6", "| search/trial_0 | failed ",
        "| seeds/seed_1   | finished |", "seed_2: training", "4 of 6",
    ):  # fmt: skip
        assert words in out, words
    assert main(["status", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["state"], len(found["parts"]), found["scores"]["test"]["miou"]["mean"]) == ("training", 5, 0.375)


def test_a_training_alone_has_no_parts(run: Path) -> None:
    assert read_whole(run / "seeds" / "seed_0", trust=False) is None


@pytest.mark.parametrize("values", [[1.0, 2.0], [0.3, 0.35, 0.41], [float(n) ** 0.5 for n in range(10)],
                                    [float(n) ** 0.5 for n in range(11)], [float(n) for n in range(40)]])  # fmt: skip
def test_the_interval_is_students_over_seeds(values: list[float]) -> None:
    stats = pytest.importorskip("scipy.stats")
    found = spread(values)
    low, high = stats.t.interval(0.95, len(values) - 1, loc=sum(values) / len(values), scale=stats.sem(values))
    assert found["mean"] == pytest.approx(sum(values) / len(values))
    assert found["half_width"] == pytest.approx((high - low) / 2, rel=1e-3)


def test_one_seed_has_no_interval_and_none_no_mean() -> None:
    assert spread([0.5, None]) == {"mean": 0.5, "deviation": None, "half_width": None}
    assert spread([None]) == {"mean": None, "deviation": None, "half_width": None}
