"""Compiled or not, at any ZeRO stage, a training learns the same; here with learned positions and drop path too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.compare import final_weights, largest_difference, largest_loss_difference, train_records
from tests.support.group import Job, run_jobs
from tests.support.stochastic_training import GRAPHS_ONLY, never_whole, recipe

LOSS_BOUND, WEIGHT_BOUND = 1e-5, 1e-4
"""Adam divides by the size of the gradient, so that rounding shows in biases that started from 0. Seen: 2e-5."""

FEW = (
    "model.in_domains=[rgb,semseg]", "model.out_domains=[depth,semseg]", "model.extra_norm_pix_loss=false",
    "model.num_encoded_tokens=20",
)  # fmt: skip


def check(
    stages: dict[str, str], shards: Path, folder: Path, overrides: tuple[str, ...] = (), compiler: str | None = None
) -> None:
    """Train at each stage, compiled and not; all learn what the first does, uncompiled."""
    jobs = []
    for ds, checkpointing in stages.items():
        words = (*recipe(shards, checkpointing), *overrides)
        jobs += [
            Job(f"{Path(ds).stem}-plain", ds, words),
            Job(f"{Path(ds).stem}-compiled", ds, (*words, "train.compile=true"), compiler=compiler),
        ]
    for done in run_jobs(jobs, 2, folder).values():
        assert (done.status, done.error) == (0, ""), done.run
    expected = folder / jobs[0].run
    initial = final_weights(expected)
    for job in jobs[1:]:
        run = folder / job.run
        difference, where = largest_difference(final_weights(run), initial)
        losses = largest_loss_difference(train_records(run), train_records(expected))
        validation = largest_loss_difference(val_records(run), val_records(expected))
        print(f"{job.run:<24}{difference:>10.1e}{losses:>10.1e}{validation:>10.1e}  {where}")
        assert difference <= WEIGHT_BOUND, (job.run, where)
        assert max(losses, validation) <= LOSS_BOUND, job.run


def val_records(run: Path) -> list[dict[str, object]]:
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [record for record in records if record["kind"] == "val"]


@pytest.mark.slow
def test_compiled_trainings_learn_the_same(synthetic_shards: Path, tmp_path: Path) -> None:
    stages = {"zero1": "full", str(never_whole(tmp_path)): "none"}
    check(stages, synthetic_shards, tmp_path, FEW, GRAPHS_ONLY)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_compiled_trainings_learn_the_same_at_every_stage(synthetic_shards: Path, tmp_path: Path) -> None:
    stages = {"zero0": "none", "zero1": "full", "zero2": "none", "zero3": "full", str(never_whole(tmp_path)): "full"}
    check(stages, synthetic_shards, tmp_path)
