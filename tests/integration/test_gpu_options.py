"""Options that need a GPU, on CPUs: with recorded graphs and emulated float8, through trainings at every ZeRO stage."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.support.compare import final_weights, largest_loss_difference, train_records
from tests.support.group import Job, run_jobs
from tests.support.stochastic_training import GRAPHS_ONLY, never_whole, recipe

RECORDED = "tests.support.recorded_graphs:graphs_on_cpu_needed"


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("ranks", [1, 2])
def test_graphs_learn_the_same_bit_for_bit(ranks: int, synthetic_shards: Path, tmp_path: Path) -> None:
    """With accumulation, drop path, validation and averaged weights, at each stage that takes graphs."""
    words = (*recipe(synthetic_shards, "full"), "train.ema=100")
    jobs = []
    for ds, more in (("zero0", ()), ("zero1", ()), ("zero2", ()), ("zero1", ("train.precision=bf16",)),
                     ("zero0", ("train.precision=bf16",)), ("zero1", ("train.direct_gradients=false",))):  # fmt: skip
        name = "-".join((ds, *more))
        jobs += [
            Job(f"{name}-plain", ds, (*words, *more)),
            Job(f"{name}-graphs", ds, (*words, *more, "train.cuda_graphs=true"), around=RECORDED),
        ]
    for done in run_jobs(jobs, ranks, tmp_path).values():
        assert (done.status, done.error) == (0, ""), done.run
    for plain, graphs in zip(jobs[::2], jobs[1::2], strict=True):
        a, b = (final_weights(tmp_path / job.run) for job in (plain, graphs))
        assert [name for name in a if not torch.equal(a[name], b[name])] == [], graphs.run
        losses = [[record["losses"] for record in train_records(tmp_path / job.run)] for job in (plain, graphs)]
        assert losses[0] == losses[1]


@pytest.mark.slow
@pytest.mark.process
def test_float8_learns_the_same_at_every_stage_and_resumes(synthetic_shards: Path, tmp_path: Path) -> None:
    """Emulated, in bf16: beside ZeRO-1, and beside a run without it; a resume goes on bit for bit, or without it."""
    words = (*recipe(synthetic_shards, "full"), "train.precision=bf16")
    eight = (*words, "train.float8=emulated")
    never = str(never_whole(tmp_path))
    jobs = [
        Job("plain", "zero1", words),
        *(Job(f"at{Path(ds).stem}", ds, eight) for ds in ("zero0", "zero1", "zero2", "zero3", never)),
        Job("compiled", "zero1", (*eight, "train.compile=true"), compiler=GRAPHS_ONLY),
        Job("first", "zero1", (*eight, "train.stop_at=3")),
        Job("on", "zero1", eight, copy_of="first"),
        Job("off", "zero1", words, copy_of="first"),
        Job("late", "zero1", (*words, "train.stop_at=3")),
        Job("later", "zero3", eight, copy_of="late"),
    ]
    for done in run_jobs(jobs, 2, tmp_path).values():
        assert (done.status, done.error) == (0, ""), done.run
    weights = {job.run: final_weights(tmp_path / job.run) for job in jobs}
    assert {tuple(each) for each in weights.values()} == {tuple(weights["plain"])}
    assert all(torch.equal(weights["on"][name], tensor) for name, tensor in weights["atzero1"].items())
    losses = {job.run: train_records(tmp_path / job.run) for job in jobs}
    for run in ("atzero0", "atzero2", "atzero3", "atnever_whole", "compiled"):
        assert largest_loss_difference(losses[run], losses["atzero1"]) < 5e-3, run
    for run in ("off", "later", "atzero1"):
        assert 1e-6 < largest_loss_difference(losses[run], losses["plain"]) < 0.05, run
