"""Steps whose numbers are lost: left out by all ranks, their tiles named by the rank that had them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mmae.config.batch_split import split_global_batch
from mmae.config.schema import DataConfig
from mmae.data.sampling.order import rank_slices
from mmae.data.sampling.shard_sets import ShardSet
from mmae.data.sampling.training_tiles import training_tiles
from mmae.data.shards.index import open_index
from mmae.draws import tile_keys
from mmae.engine.optim import lr_factor
from mmae.run.folder import RunFolder
from tests.support.commands import SMALL, run_command
from tests.support.group import Done, Job, run_jobs

WORLD, BATCH, STEPS = 2, 16, 6
BAD_ROW = 3
DOMAINS = ("model.in_domains=[rgb,depth]", "model.out_domains=[rgb,depth,sentinel1]")
SCHEDULE = (f"train.max_steps={STEPS}", "val.every=0", "checkpoint.every=100")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards in which one tile's radar values, which are data, are so large that their squares are not finite."""
    folder = tmp_path_factory.mktemp("lost")
    assert run_command("mmae", "synth", "tiles", "--tiles", "48", cwd=folder).status == 0
    with h5py.File(next((folder / "tiles").glob("*.h5")), "r+") as file:
        file["sentinel1"][BAD_ROW] = 3e38
        kept = json.loads(next((folder / "tiles").glob("*_splits.json")).read_text())["train"]
    assert BAD_ROW in kept
    done = run_command("mmae", "repack", "tiles", "shards", cwd=folder)
    assert done.status == 0, done.err
    return folder / "shards"


@pytest.fixture(scope="module")
def ended(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Done]]:
    folder = tmp_path_factory.mktemp("runs")
    words = (f"data.shards={shards}", *SMALL, *DOMAINS, *SCHEDULE)
    jobs = [
        Job("fp32", "zero0", (*words, "train.precision=fp32")),
        Job("bf16", "zero3", words),
        Job("norm", "zero1", (*words, "train.skip_grad_norm=1.0e-9", "train.max_bad_steps=3")),
    ]
    return folder, run_jobs(jobs, WORLD, folder)


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []


def bad_steps(shards: Path) -> dict[int, tuple[int, int]]:
    """Step -> rank that has the bad tile, and its epoch."""
    index = open_index(shards)
    order = training_tiles([ShardSet(index)], DataConfig(), 0).order(BATCH)
    rows = index.row[index.positions("train")]
    found = {}
    for step in range(STEPS):
        epoch, slots = order.global_batch_at(step)
        for rank in range(WORLD):
            for part in rank_slices(split_global_batch(BATCH, 8, WORLD), rank):
                if BAD_ROW in rows[slots[part]]:
                    found[step + 1] = rank, epoch
    return found


@pytest.mark.parametrize("run", ["fp32", "bf16"])
def test_a_bad_tile_costs_its_steps_and_is_named(run: str, shards: Path, ended: tuple[Path, dict[str, Done]]) -> None:
    folder, jobs = ended
    assert jobs[run].status == 0, jobs[run].error
    expected = bad_steps(shards)
    assert 0 < len(expected) < STEPS
    steps = [record for record in lines(folder / run / "log.jsonl") if record["kind"] == "train"]
    assert [record["step"] for record in steps if record["skipped"]] == sorted(expected)
    assert steps[-1]["skipped_steps"] == len(expected)
    for record in steps:
        # Infinities are null in JSON.
        assert (record["loss"] is None) == (record["step"] in expected)
        assert math.isfinite(record["losses"]["rgb"])
    # Skipped steps do not hold up the schedule; a step's rate is the one that its update used.
    config = RunFolder(folder / run).stored_config()
    assert config is not None
    expected_rates = [lr_factor(step, config.train) * config.train.lr for step in range(STEPS)]
    assert [record["lr"] for record in steps] == pytest.approx(expected_rates, rel=1e-9)

    found = [
        (line["step"], rank, line["reason"], line["modality"], line["rows"], line["keys"], line["shards"])
        for rank in range(WORLD)
        for line in lines(folder / run / "quarantine" / f"rank_{rank}.jsonl")
    ]
    wanted = [
        (step, rank, "loss", "sentinel1", [BAD_ROW], tile_keys(0, epoch, np.array([BAD_ROW])).tolist(),
         ["train-000000.tar"])
        for step, (rank, epoch) in expected.items()
    ]  # fmt: skip
    assert sorted(found) == sorted(wanted)


def test_too_many_in_a_row_end_the_run(ended: tuple[Path, dict[str, Done]]) -> None:
    folder, jobs = ended
    assert jobs["norm"].status == 3
    steps = [record for record in lines(folder / "norm" / "log.jsonl") if record["kind"] == "train"]
    # The third is known to be lost two steps later.
    assert [record["step"] for record in steps] == [1, 2, 3, 4, 5]
    assert all(record["skipped"] for record in steps)
    assert not (folder / "norm" / "checkpoints").exists()
    reasons = {line["reason"] for line in lines(folder / "norm" / "quarantine" / "rank_1.jsonl")}
    assert reasons <= {"norm", "loss"}
    assert "norm" in reasons
