"""A training in a real Slurm of two nodes, a rank on each, is queued again in the middle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import Command, train_words
from tests.support.live import losses_so_far, records_so_far
from tests.support.slurm_cluster import slurm_cluster, why_not
from tests.support.slurm_job import submit

# It ends when it is told to: it does not come to its end before Slurm has stopped it, however late that is.
PLAN = ("train.max_steps=5000", "checkpoint.every=1000", "val.every=5")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_requeued_job_goes_on_by_itself_as_if_nothing_had_been(
    synthetic_shards: Path,
    command: Command,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    if reason := why_not():
        pytest.skip(reason)
    with slurm_cluster(tmp_path_factory.mktemp("slurm")) as slurm:
        job = submit(slurm, tmp_path, synthetic_shards, *PLAN)
        job.wait_for_step(2)
        slurm.do("scontrol", "requeue", str(job.number))
        job.hurry()
        slurm.wait(job.number, lambda: bool(records_so_far(job.run, "resume")))
        (resumed,) = records_so_far(job.run, "resume")
        slurm.wait(job.number, lambda: max(validated(job.run), default=0) > resumed["step"] + 1)
        (job.run / "stop").touch()
        assert job.ended() == ("COMPLETED", "0:0", 1), job.log
    stopped, last = records_so_far(job.run, "end")
    assert stopped["why"] == "stopped"
    assert "SIGTERM" in stopped["reasons"]
    assert 2 <= stopped["step"] < last["step"]
    assert [(record["step"], record["world"]) for record in records_so_far(job.run, "resume")] == [(stopped["step"], 2)]
    assert last["reasons"] == ["the file stop"]
    assert "not finished: Slurm has queued it again" in job.log

    local = command(*train_words(synthetic_shards, "local", *PLAN, f"train.stop_at={last['step']}"))
    assert local.status == 0, local.err
    assert losses_so_far(job.run) == losses_so_far(tmp_path / "local")
    assert validated(job.run).items() <= validated(tmp_path / "local").items()


def validated(run: Path) -> dict[int, Any]:
    """Validation losses by step."""
    return {record["step"]: record["losses"] for record in records_so_far(run, "val")}
