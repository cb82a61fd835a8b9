"""Trainings with probes: they change nothing that is learned, end no run, and their best checkpoint stays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from mmae.run.best_checkpoint import best_checkpoint
from tests.support.commands import SMALL
from tests.support.compare import checkpoint_tensors
from tests.support.group import Done, Job, run_jobs

pytestmark = pytest.mark.slow

RECIPE = (
    *SMALL, "train.global_batch=16", "train.max_steps=8", "data.workers=0", "log.every=1", "checkpoint.every=8",
    "checkpoint.keep_last=1", "val.every=4",
)  # fmt: skip
PROBES = ("eval.every=2", "eval.tasks=[land_cover,elevation]", "eval.tiles=48")
BEST = "checkpoint.keep_best=eval.elevation"
EMA_BEST, EMA_LOSS = "checkpoint.keep_best=ema.eval.elevation", "checkpoint.keep_best=ema.val.loss"


def job(run: str, shards: Path, *overrides: str, stage: int = 1, **more: Any) -> Job:
    return Job(run, f"zero{stage}", (*RECIPE, f"data.shards={shards}", *overrides), **more)


def records(run: Path, kind: str) -> dict[int, dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return {line["step"]: line for line in lines if line["kind"] == kind}


def scores(run: Path) -> dict[int, dict[str, float]]:
    return {step: record["scores"] for step, record in records(run, "eval").items()}


def different(first: Path, second: Path) -> list[str]:
    """Tensors of the last checkpoints (weights, moments, generators) that differ in any bit."""
    a, b = (checkpoint_tensors(run / "checkpoints" / "global_step8") for run in (first, second))
    assert len(a) > 50
    assert a.keys() == b.keys()
    return [name for name in a if not torch.equal(a[name], b[name])]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def done(synthetic_shards: Path, folder: Path) -> dict[str, Done]:
    """How runs ended that share a group of two ranks."""
    jobs = [
        job("off", synthetic_shards),
        job("on", synthetic_shards, *PROBES, BEST),
        job("halves", synthetic_shards, *PROBES, BEST, "train.stop_at=5"),
        job("halves", synthetic_shards, *PROBES, BEST),
        job("failing", synthetic_shards, *PROBES, around="tests.support.trouble:failing_probes"),
        job("off3", synthetic_shards, stage=3),
        job("on3", synthetic_shards, *PROBES, stage=3),
        job("both", synthetic_shards, *PROBES, "train.stop_at=2"),
        *(job(f"near{stage}", synthetic_shards, *PROBES, "train.ema=1", EMA_BEST, stage=stage) for stage in (0, 1, 3)),
        job("near-halves", synthetic_shards, *PROBES, "train.ema=1", EMA_BEST, "train.stop_at=5"),
        job("near-halves", synthetic_shards, *PROBES, "train.ema=1", EMA_BEST),
        job(
            "far", synthetic_shards, *PROBES, "train.ema=1e9", "eval.averaged=true", "checkpoint.keep_best=ema.val.loss"
        ),
        job("unasked", synthetic_shards, *PROBES, "train.ema=64", "checkpoint.keep_best=ema.val.loss"),
    ]
    return run_jobs(jobs, 2, folder)


def test_probes_change_nothing_that_is_learned(done: dict[str, Done], folder: Path) -> None:
    assert {name: (each.status, each.error) for name, each in done.items()} == dict.fromkeys(done, (0, ""))
    for off, on in (("off", "on"), ("off", "failing"), ("off3", "on3")):
        assert different(folder / off, folder / on) == [], on
        losses, val = ({run: records(folder / run, kind) for run in (off, on)} for kind in ("train", "val"))
        assert [each["losses"] for each in losses[on].values()] == [each["losses"] for each in losses[off].values()]
        assert [each["losses"] for each in val[on].values()] == [each["losses"] for each in val[off].values()]
    assert set(scores(folder / "on")) == {2, 4, 6, 8}
    for each in scores(folder / "on").values():
        assert set(each) == {"land_cover", "elevation"}
    # The same weights, whole or sharded, have the same scores.
    assert scores(folder / "on3")[2] == pytest.approx(scores(folder / "on")[2], rel=0.05)


def test_a_resumed_run_equals_an_uninterrupted_one(done: dict[str, Done], folder: Path) -> None:
    assert different(folder / "on", folder / "halves") == []
    # The stop at step 5 has probes of its own.
    assert {step: each for step, each in scores(folder / "halves").items() if step != 5} == scores(folder / "on")


def test_the_best_checkpoint_stays_over_a_resume(done: dict[str, Done], folder: Path) -> None:
    for run in (folder / "on", folder / "halves"):
        found = {step: each["elevation"] for step, each in scores(run).items()}
        step = max(found, key=lambda step: (found[step], -step))
        best = best_checkpoint(run / "checkpoints", "eval.elevation", "48 tiles, seed 0")
        assert best is not None
        assert (best.step, best.value) == (step, found[step])
        kept = {path.name for path in (run / "checkpoints").iterdir()}
        # A resumed start also keeps the checkpoint that it began with.
        assert kept - {"global_step5"} == {f"global_step{step}", "global_step8", "latest"}


@pytest.mark.parametrize("run", ["near0", "near1", "near3", "near-halves"])
def test_the_averaged_weights_are_probed_and_choose_the_best(done: dict[str, Done], folder: Path, run: str) -> None:
    """With a half-life of 1 tile they are the weights of the last step, and nothing that is learned changes."""
    averaged = {step: record["ema"] for step, record in records(folder / run, "eval").items()}
    assert all(each["failed"] == {} for each in averaged.values())
    assert {step: each["scores"] for step, each in averaged.items()} == {
        step: pytest.approx(each, rel=0.05) for step, each in scores(folder / run).items()
    }
    found = {step: each["scores"]["elevation"] for step, each in averaged.items()}
    step = max(found, key=lambda step: (found[step], -step))
    best = best_checkpoint(folder / run / "checkpoints", "ema.eval.elevation", "48 tiles, seed 0")
    assert best is not None
    assert (best.step, best.value) == (step, found[step])
    if run == "near1":
        assert different(folder / "off", folder / run) == []
        resumed = {step: each for step, each in records(folder / "near-halves", "eval").items() if step != 5}
        assert {step: each["ema"] for step, each in resumed.items()} == averaged


def test_an_average_that_hardly_moves_keeps_its_scores(done: dict[str, Done], folder: Path) -> None:
    first, *_, last = records(folder / "far", "eval").values()
    assert last["ema"]["scores"] == pytest.approx(first["ema"]["scores"], rel=0.01)
    assert last["scores"]["elevation"] != pytest.approx(first["scores"]["elevation"], rel=0.01)
    validated = {step: sum(record["ema"]["losses"].values()) for step, record in records(folder / "far", "val").items()}
    best = best_checkpoint(folder / "far" / "checkpoints", "ema.val.loss", "")
    assert best is not None
    assert best.value == validated[best.step] == min(validated.values())
    assert all("ema" not in record for record in records(folder / "unasked", "eval").values())


def test_a_probe_that_fails_is_said_and_logged(done: dict[str, Done], folder: Path) -> None:
    first, *others = records(folder / "failing", "eval").values()
    assert first["scores"] == {}
    assert first["failed"] == dict.fromkeys(("land_cover", "elevation"), "rank 1: no memory for probes")
    assert len(others) == 3
    for each in others:
        assert (set(each["scores"]), each["failed"]) == ({"land_cover"}, {"elevation": "rank 1: singular"})
    assert records(folder / "failing", "end")[8]["why"] == "finished"


def test_scores_do_not_depend_on_the_number_of_ranks(
    synthetic_shards: Path, done: dict[str, Done], folder: Path
) -> None:
    ended = run_jobs([job("alone", synthetic_shards, *PROBES, "train.stop_at=2")], 1, folder)
    assert (ended["alone"].status, ended["alone"].error) == (0, "")
    one = records(folder / "alone", "val")[2]
    both = records(folder / "both", "val")[2]
    assert one["rmse"] == pytest.approx(both["rmse"], rel=1e-2)
    assert one["iou"] == pytest.approx(both["iou"], rel=5e-2)
    assert scores(folder / "alone")[2] == pytest.approx(scores(folder / "both")[2], rel=5e-2)
