"""Which checkpoint is the best, from what checkpoints hold on the disk."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from mmae.run.best_checkpoint import best_checkpoint

PROTOCOL = "512 tiles, seed 0"


def checkpoint(folder: Path, step: int, scores: Any, protocol: str = PROTOCOL) -> Path:
    path = folder / f"global_step{step}"
    path.mkdir()
    (path / "state.json").write_text(json.dumps({"step": step, "scores": scores, "protocol": protocol}))
    return path


def best_step(folder: Path, score: str = "eval.biome") -> int | None:
    best = best_checkpoint(folder, score, PROTOCOL)
    return None if best is None else best.step


def test_a_higher_probe_and_a_lower_loss_are_better(tmp_path: Path) -> None:
    checkpoint(tmp_path, 5, {"eval.biome": 0.25, "val.loss": 3.5, "val.rmse.depth": 9.5, "val.iou.semseg": 0.125})
    checkpoint(tmp_path, 10, {"eval.biome": 0.5, "val.loss": 2.5, "val.rmse.depth": 9.75, "val.iou.semseg": 0.25})
    checkpoint(tmp_path, 15, {"eval.biome": 0.375, "val.loss": 3.0, "val.rmse.depth": 9.0, "val.iou.semseg": 0.5})
    assert best_step(tmp_path) == 10
    assert best_step(tmp_path, "val.loss") == 10
    assert best_step(tmp_path, "val.rmse.depth") == 15
    assert best_step(tmp_path, "val.iou.semseg") == 15


def test_scores_of_averaged_weights_are_compared_like_those_of_the_weights(tmp_path: Path) -> None:
    checkpoint(tmp_path, 5, {"ema.eval.biome": 0.25, "ema.val.loss": 2.5, "eval.biome": 0.5})
    checkpoint(tmp_path, 10, {"ema.eval.biome": 0.5, "ema.val.loss": 3.5, "eval.biome": 0.25})
    checkpoint(tmp_path, 15, {"ema.eval.biome": 0.75, "ema.val.loss": 3.0}, protocol="64 tiles, seed 0")
    assert [best_step(tmp_path, score) for score in ("ema.eval.biome", "ema.val.loss", "eval.biome")] == [10, 5, 5]


def test_of_equal_scores_the_earliest_stays_the_best(tmp_path: Path) -> None:
    for step in (20, 100, 3):
        checkpoint(tmp_path, step, {"eval.biome": 0.5})
    assert best_step(tmp_path) == 3


def test_without_a_score_there_is_no_best(tmp_path: Path) -> None:
    assert best_step(tmp_path / "nowhere") is None
    checkpoint(tmp_path, 5, {})
    (tmp_path / "global_step7").mkdir()
    (tmp_path / "global_step8").mkdir()
    (tmp_path / "global_step8" / "state.json").write_text("{ torn")
    assert best_step(tmp_path) is None


@pytest.mark.parametrize("value", [math.nan, math.inf, None, "0.9", True, [0.9], {}])
def test_what_is_no_number_is_no_score(tmp_path: Path, value: Any) -> None:
    checkpoint(tmp_path, 5, {"eval.biome": value})
    checkpoint(tmp_path, 6, [value])
    checkpoint(tmp_path, 7, {"eval.biome": 0.25})
    assert best_step(tmp_path) == 7


def test_scores_of_another_choice_of_tiles_are_not_compared(tmp_path: Path) -> None:
    checkpoint(tmp_path, 5, {"eval.biome": 0.75, "val.loss": 1.0}, "64 tiles, seed 0")
    checkpoint(tmp_path, 10, {"eval.biome": 0.5, "val.loss": 2.0})
    assert best_step(tmp_path) == 10
    # A validation has no choice of tiles.
    assert best_step(tmp_path, "val.loss") == 5


def test_a_checkpoint_whose_scores_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """Retention removes nothing then: it might be the best one."""
    checkpoint(tmp_path, 5, {"eval.biome": 0.75})
    (tmp_path / "global_step9").mkdir()
    (tmp_path / "global_step9" / "state.json").mkdir()
    with pytest.raises(OSError, match="folder"):
        best_step(tmp_path)
