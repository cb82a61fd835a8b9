"""Search and seeds: what is tried, what is chosen, and the intervals."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from mmae.errors import InputError
from mmae.finetune.repeats import best_of, pairs, search_specs, seed_specs, summary, with_choice
from tests.support.tuning_case import labelled_set, tuning_spec


def result(val: float | None, main: str = "accuracy", **more: Any) -> dict[str, Any]:
    part = {"split": "split val", "tiles": 5, "scores": {main: val}}
    return {"task": "t", "kind": "classification", "main": main, "step": 9, "training_tiles": 7, "blr": 1.0,
            "layer_decay": 0.75, "seed": 0, "val": part, "test": part, **more}  # fmt: skip


def test_a_search_begins_with_the_recipes_own_pair_and_tries_none_twice() -> None:
    tried = pairs(20, 0.01, 0.8)
    assert tried[0] == (0.01, 0.8)
    assert len(set(tried)) == 20
    assert {decay for _, decay in tried[:3]} == {0.8, 0.75}
    assert pairs(8, 0.01, 0.8) == tried[:8]


def test_trials_and_seeds_are_runs_of_their_own(tmp_path: Path) -> None:
    spec = tuning_spec(tmp_path, labelled_set(tmp_path), "finetune.search=3", "finetune.seeds=2", "train.seed=5")
    trials, seeds = list(search_specs(spec)), list(seed_specs(spec))
    assert [each.folder.path.relative_to(tmp_path).as_posix() for each in trials] == [
        "run/search/trial_0", "run/search/trial_1", "run/search/trial_2"
    ]  # fmt: skip
    assert [(each.folder.path.name, each.config.train.seed) for each in seeds] == [("seed_5", 5), ("seed_6", 6)]
    assert len({(each.config.train.blr, each.config.train.layer_decay) for each in trials}) == 3
    assert {each.config.finetune.seeds for each in (*trials, *seeds)} == {1}
    chosen = with_choice(spec, result(0.5, blr=0.25, layer_decay=0.6))
    assert {(each.config.train.blr, each.config.train.layer_decay) for each in seed_specs(chosen)} == {(0.25, 0.6)}


@pytest.mark.parametrize(
    ("main", "scores", "best"), [("accuracy", [0.2, 0.9, None, 0.9], 1), ("rmse", [3.0, 1.0, 2.0, 1.0], 1)]
)
def test_the_best_trial_is_the_first_with_the_best_validation(main: str, scores: list[float | None], best: int) -> None:
    trials = [result(score, main, seed=number) for number, score in enumerate(scores)]
    assert best_of(trials)["seed"] == best


def test_a_search_without_any_score_is_an_error() -> None:
    with pytest.raises(InputError, match="no trial of the search has a validation score"):
        best_of([result(None), result(None)])


def test_the_summary_joins_the_scores_of_all_seeds() -> None:
    joined = summary([result(0.5, seed=0), result(0.7, seed=1)], [result(0.4, blr=2.0)])
    assert joined["seeds"] == [0, 1]
    assert joined["test"]["scores"]["accuracy"]["mean"] == pytest.approx(0.6)
    assert joined["search"] == [{"blr": 2.0, "layer_decay": 0.75, "accuracy": 0.4}]
    assert math.isclose(joined["val"]["scores"]["accuracy"]["deviation"], 0.2 / math.sqrt(2))
