"""Stopped and resumed equals never stopped, bit for bit, through the `deepspeed` command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.support.commands import Command, train_words
from tests.support.compare import checkpoint_tensors

SCHEDULE = ("train.max_steps=12", "checkpoint.every=100", "val.every=0", "model.task_balancer=uncertainty")


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 2])
def test_a_resumed_run_equals_an_uninterrupted_one(
    stage: int, synthetic_shards: Path, tmp_path: Path, command: Command
) -> None:
    whole = command(*train_words(synthetic_shards, "whole", *SCHEDULE, stage=stage))
    assert whole.status == 0, whole.err
    halves = [*SCHEDULE, "data.workers=2"]
    first = command(*train_words(synthetic_shards, "halves", *halves, "train.stop_at=6", stage=stage))
    assert first.status == 0, first.err
    assert first.last_json["step"] == 6
    second = command(*train_words(synthetic_shards, "halves", *halves, stage=stage))
    assert second.status == 0, second.err
    assert "resuming at step 6" in second.err
    assert second.last_json["losses"] == whole.last_json["losses"]
    assert second.last_json["val_losses"] == whole.last_json["val_losses"]

    expected = checkpoint_tensors(tmp_path / "whole" / "checkpoints" / "global_step12")
    seen = checkpoint_tensors(tmp_path / "halves" / "checkpoints" / "global_step12")
    assert expected.keys() == seen.keys()
    assert len(expected) > 50
    different = [name for name in expected if not torch.equal(expected[name], seen[name])]
    assert different == []


@pytest.mark.slow
def test_a_finished_run_says_so_and_stays_as_it_is(synthetic_shards: Path, tmp_path: Path, command: Command) -> None:
    words = train_words(synthetic_shards, "run", "train.max_steps=2", "val.every=0", "checkpoint.every=100")
    assert command(*words).status == 0
    checkpoint = tmp_path / "run" / "checkpoints" / "global_step2"
    before = {path: path.stat().st_mtime_ns for path in checkpoint.iterdir()}
    again = command(*words)
    assert again.status == 0, again.err
    assert again.last_json["step"] == 2
    assert {path: path.stat().st_mtime_ns for path in checkpoint.iterdir()} == before


@pytest.mark.slow
def test_what_may_change_on_resume(synthetic_shards: Path, tmp_path: Path, command: Command) -> None:
    start = ["train.max_steps=2", "checkpoint.every=100", "train.micro_batch=8"]
    assert command(*train_words(synthetic_shards, "run", *start)).status == 0

    silent = command(*train_words(synthetic_shards, "run", "train.max_steps=2", "train.micro_batch=8"))
    assert silent.status == 0, silent.err  # checkpoint.every is free

    refused = command(*train_words(synthetic_shards, "run", *start, "model.num_encoded_tokens=30"))
    assert refused.status == 2
    assert "model.num_encoded_tokens is 49 in this run, and 30 now: it cannot change on resume" in refused.err

    allowed = command(*train_words(synthetic_shards, "run", "train.max_steps=4", "train.blr=1e-3"))
    assert allowed.status == 0, allowed.err
    assert "resume: train.max_steps 2 -> 4" in allowed.err
    records = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert records[-1]["step"] == 4
    assert [r["changes"] for r in records if r["kind"] == "resume"][-1] == {
        "train.max_steps": [2, 4],
        "train.blr": [0.016, 0.001],
    }
