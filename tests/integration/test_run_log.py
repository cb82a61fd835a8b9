"""What a run's folder tells after real trainings that went back, diverged, or were stopped."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mmae.run.layout import ARCHIVE
from tests.support.commands import SMALL, Command
from tests.support.compare import checkpoint_tensors
from tests.support.group import Job, run_jobs

RECIPE = (*SMALL, "train.global_batch=16", "data.workers=0", "log.every=1", "log.pictures=0")


def records(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def steps(run: Path, kind: str) -> list[int]:
    return [record["step"] for record in records(run) if record["kind"] == kind]


def shown(run: Path) -> list[int]:
    events = EventAccumulator(str(run / "tensorboard"), purge_orphaned_data=False).Reload()
    return [event.step for event in events.Scalars("train/loss")]


def test_a_run_that_went_back_tells_one_history(synthetic_shards: Path, tmp_path: Path) -> None:
    recipe = (
        *RECIPE, f"data.shards={synthetic_shards}", "train.max_steps=6", "checkpoint.every=2", "val.every=1",
        "log.samples=true", "log.tensorboard=true",
    )  # fmt: skip
    run, whole = tmp_path / "run", tmp_path / "whole"
    jobs = [
        Job("whole", "zero1", recipe),
        Job("run", "zero1", (*recipe, "train.stop_at=5"), around="tests.support.trouble:loses_step_5"),
        Job("run", "zero1", (*recipe, "train.stop_at=4")),
        Job("run", "zero1", recipe, resume=str(run / "checkpoints" / "global_step2")),
    ]
    for job in jobs:
        assert run_jobs([job], 2, tmp_path)[job.run].error == ""
    for kind in ("train", "val"):
        assert steps(run, kind) == [1, 2, 3, 4, 5, 6]
    first, second = sorted(run.glob(f"{ARCHIVE}*"))
    assert (steps(first, "train"), steps(second, "train")) == ([5], [3, 4])
    assert (shown(run), shown(first), shown(second)) == ([1, 2, 3, 4, 5, 6], [5], [3, 4])
    assert [path.name for path in (second / "checkpoints").glob("global*")] == ["global_step4"]
    # Seen and learned is what an uninterrupted run saw and learned.
    for rank in (0, 1):
        name = f"samples_rank{rank}.jsonl"
        assert (run / name).read_bytes() == (whole / name).read_bytes()
    expected, seen = (checkpoint_tensors(each / "checkpoints" / "global_step6") for each in (whole, run))
    assert expected.keys() == seen.keys()
    assert [name for name in expected if not torch.equal(expected[name], seen[name])] == []


def words(shards: Path, run: str, *overrides: str) -> list[str]:
    return ["mmae", "train", "--config", "debug", f"data.shards={shards}", f"run.dir={run}", *RECIPE, *overrides]


def test_a_training_that_diverges_says_so(
    synthetic_shards: Path, tmp_path: Path, command: Command, here: Command
) -> None:
    steps = ("train.max_steps=1", "train.blr=1e30", "train.warmup_steps=0")
    done = command(*words(synthetic_shards, "run", *steps))
    assert done.status == 3, done.out + done.err
    assert "mmae: error: lost numbers: step 1: the validation loss of " in done.err
    assert "there is no checkpoint yet: lower train.blr" in done.err
    assert not list((tmp_path / "run").glob("checkpoints/global*"))
    status = here("status", "run")
    assert status.status == 1
    assert "run: failed (lost numbers)" in status.out
    assert "validation  not a number at step 1" in status.out
    (val,) = [record for record in records(tmp_path / "run") if record["kind"] == "val"]
    assert Counter(val["lost"]) <= Counter(val["scored"])


@pytest.mark.slow
def test_the_line_after_a_stop_goes_on(synthetic_shards: Path, tmp_path: Path, command: Command) -> None:
    run = tmp_path / "run"
    steps = ("train.max_steps=3", "checkpoint.every=1", "val.every=0", "train.stop_at=2")
    assert command(*words(synthetic_shards, "run", *steps)).status == 0
    at_once = "train.max_hours=0.000001"
    stopped = command(*words(synthetic_shards, "run", *steps, at_once), "--resume", "run/checkpoints/global_step1")
    assert stopped.status == 0, stopped.err
    assert stopped.last_json["checkpoint"].endswith("run/checkpoints/global_step1")
    went_on = command(*said(stopped.err, at_once))
    assert (went_on.status, went_on.last_json["step"]) == (0, 2), went_on.err
    fresh = command(*words(synthetic_shards, "run", *steps, at_once), "--fresh")
    assert fresh.status == 0, fresh.err
    assert (fresh.last_json["step"], fresh.last_json["checkpoint"]) == (0, None)
    asides = sorted(run.glob(f"{ARCHIVE}*"))
    begun = command(*said(fresh.err, at_once))
    assert (begun.status, begun.last_json["step"]) == (0, 2), begun.err
    assert sorted(run.glob(f"{ARCHIVE}*")) == asides


def said(err: str, without: str) -> list[str]:
    """The command that a stop names, but for the limit that it stopped for."""
    (line,) = [line for line in err.splitlines() if "go on with: " in line]
    found = shlex.split(line.partition("go on with: ")[2])
    assert found[:2] == ["mmae", "train"]
    assert not {"--fresh", "--resume"} & set(found)
    return [word for word in found if word != without]
