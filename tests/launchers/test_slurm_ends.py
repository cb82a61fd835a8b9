"""How jobs end in a real Slurm, and which of them are queued again."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.commands import command_environment, run_command
from tests.support.live import FOR_LONG, records_so_far
from tests.support.paths import ROOT
from tests.support.slurm_cluster import Slurm, slurm_cluster, why_not
from tests.support.slurm_job import Job, submit

pytestmark = pytest.mark.slow
SMALL_SHARDS = ("--tiles-per-shard", "8")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    if reason := why_not():
        pytest.skip(reason)
    with slurm_cluster(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


def ranks_of(job: Job) -> dict[int, int]:
    """Process ids of a job's living ranks."""
    found: dict[int, int] = {}
    of_the_job = {f"SLURM_JOB_ID={job.number}".encode(), f"SLURM_CONF={job.slurm.conf}".encode()}
    for pid in sorted((int(place.name) for place in Path("/proc").glob("[0-9]*")), reverse=True):
        with suppress(OSError):
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            if of_the_job <= set(variables):
                # Its workers are younger.
                found.update({int(each[5:]): pid for each in variables if each.startswith(b"RANK=")})
    return found


def test_a_cancelled_job_saves_and_is_not_queued_again(slurm: Slurm, synthetic_shards: Path, tmp_path: Path) -> None:
    job = submit(slurm, tmp_path, synthetic_shards, *FOR_LONG)
    job.wait_for_step(2)
    job.cancel()
    state, _, requeues = job.ended()
    assert (state, requeues) == ("CANCELLED", 0), job.log
    (end,) = records_so_far(job.run, "end")
    assert end["why"] == "stopped"
    assert (job.run / "checkpoints" / f"global_step{end['step']}").is_dir()
    assert f"go on with: sbatch --nodes=2 --ntasks-per-node=1 --gpus-per-node=0 --partition=normal {ROOT}" in job.log
    assert "not finished: cancelled, and not queued again" in job.log


def test_the_end_of_its_time_queues_it_again_and_it_goes_on_to_the_end(
    slurm: Slurm,
    synthetic_shards: Path,
    tmp_path: Path,
) -> None:
    job = submit(slurm, tmp_path, synthetic_shards, "train.max_steps=800", "checkpoint.every=1000", "val.every=0")
    job.wait_for_step(2)
    # Slurm looks at times twice a minute, and sends SIGUSR1 300 s before the end: at once.
    slurm.do("scontrol", "update", f"JobId={job.number}", "TimeLimit=5")
    slurm.wait(job.number, lambda: job.state == "PENDING")
    slurm.do("scontrol", "update", f"JobId={job.number}", "TimeLimit=60")
    job.hurry()
    assert job.ended() == ("COMPLETED", "0:0", 1), job.log
    stopped, finished = records_so_far(job.run, "end")
    assert (stopped["why"], stopped["reasons"], finished["why"]) == ("stopped", ["SIGUSR1"], "finished")
    assert [record["step"] for record in records_so_far(job.run, "resume")] == [stopped["step"]]
    assert "stopped (SIGUSR1), not finished: queueing again" in job.log


def test_time_that_is_too_short_for_anything_is_not_given_again_and_again(
    slurm: Slurm,
    synthetic_shards: Path,
    tmp_path: Path,
) -> None:
    job = submit(slurm, tmp_path, synthetic_shards, *FOR_LONG)
    slurm.wait(job.number, lambda: len(ranks_of(job)) == 2)
    # As Slurm itself does before the end of the time; the ranks are still importing.
    slurm.do("scancel", "--batch", "--signal=USR1", str(job.number))
    assert job.ended()[2] == 0, job.log
    assert "nothing new is saved" in job.log


def test_where_preempted_jobs_are_cancelled_it_queues_itself_again(
    slurm: Slurm,
    synthetic_shards: Path,
    tmp_path: Path,
) -> None:
    job = submit(slurm, tmp_path, synthetic_shards, *FOR_LONG, options=("--partition=lent", "--exclusive"))
    job.wait_for_step(2)
    slurm.do("srun", "--partition=urgent", "--exclusive", "--nodes=2", "true")
    job.hurry()
    slurm.wait(job.number, lambda: bool(records_so_far(job.run, "resume")))
    job.cancel()
    state, _, requeues = job.ended()
    assert (state, requeues) == ("CANCELLED", 1), job.log


def test_a_lost_rank_is_started_again_within_the_job(slurm: Slurm, synthetic_shards: Path, tmp_path: Path) -> None:
    job = submit(slurm, tmp_path, synthetic_shards, *FOR_LONG, "checkpoint.every=2", restarts=1)
    slurm.wait(job.number, lambda: bool(records_so_far(job.run, "save")))
    os.kill(ranks_of(job)[1], signal.SIGKILL)
    slurm.wait(job.number, lambda: bool(records_so_far(job.run, "resume")))
    assert "restart 1 of 1" in job.log
    os.kill(ranks_of(job)[1], signal.SIGKILL)
    # After that it leaves the nodes to Slurm.
    slurm.wait(job.number, lambda: job.state == "PENDING")
    said = job.log[: job.log.rindex("not finished: queueing again")].splitlines()
    assert said[-2].startswith("slurm.sbatch: first error: lost rank: rank 1 on node-2 is gone")
    job.cancel()


def test_bad_input_ends_it_with_one_line(slurm: Slurm, synthetic_shards: Path, tmp_path: Path) -> None:
    job = submit(slurm, tmp_path, synthetic_shards, "train.max_stpes=3")
    assert job.ended() == ("FAILED", "2:0", 0)
    assert re.fullmatch("error: .*train.max_stpes.*\n", job.log)


def test_nodes_without_gpus_must_be_told(slurm: Slurm) -> None:
    with pytest.raises(AssertionError, match="generic resource"):
        slurm.do("sbatch", str(ROOT / "launchers" / "slurm.sbatch"))


def test_an_array_job_repacks_what_one_process_would(slurm: Slurm, tmp_path: Path) -> None:
    for words in (["synth", "tiles", "--tiles", "48"], ["repack", "tiles", "whole", *SMALL_SHARDS]):
        done = run_command("mmae", *words, cwd=tmp_path)
        assert done.status == 0, done.err
    # The README's line.
    words = ["sbatch", "--parsable", "--array=1-4", "--cpus-per-task=1", "--wrap"]
    words += [f"mmae repack tiles parts --part $SLURM_ARRAY_TASK_ID/4 {' '.join(SMALL_SHARDS)}"]
    job = int(slurm.do(*words, cwd=tmp_path, **command_environment(PYTHONPATH=str(ROOT))))
    for part in range(1, 5):
        assert slurm.ended(f"{job}_{part}")["JobState"] == "COMPLETED", slurm.logs()
    whole, parts = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("whole", "parts")
    )
    assert len(whole) > 6
    assert parts == whole
