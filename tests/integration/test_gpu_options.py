"""Options that need a GPU, on CPUs: with recorded graphs and emulated float8, through trainings at every ZeRO stage."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.integration.test_compile import recipe
from tests.support.compare import final_weights, train_records
from tests.support.group import Job, run_jobs

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
