"""A ladder's runs in a job array of a real Slurm: all are trained, one is queued again, what is done is left out."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from mmae.scaling_law.ladder_file import read_ladder
from tests.support.commands import SMALL, Command, command_environment
from tests.support.live import records_so_far
from tests.support.paths import ROOT
from tests.support.slurm_cluster import Slurm, slurm_cluster, why_not
from tests.support.slurm_job import ON_CPUS

pytestmark = [pytest.mark.slow, pytest.mark.process, pytest.mark.timeout(1800)]

SMALLER = [word for word in SMALL if not word.startswith(("model.size", "train.warmup_steps"))]


def submit(slurm: Slurm, folder: Path) -> int:
    """Submit the ladder's script from another folder than the one that it was planned in."""
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    options = ["--nodes=1", *ON_CPUS[1:]]
    env = command_environment(MMAE_ROOT=str(ROOT), PYTHONPATH=str(ROOT))
    return int(slurm.do("sbatch", "--parsable", *options, str(folder / "out/ladder.sbatch"), cwd=elsewhere, **env))


def has_begun(run: Path) -> bool:
    return len(records_so_far(run, "train")) > 1


def test_a_ladder_is_trained_by_a_job_array(
    synthetic_shards: Path, tmp_path: Path, command: Command, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if reason := why_not():
        pytest.skip(reason)
    (tmp_path / "shards").symlink_to(synthetic_shards)
    recipe = ["data.shards=shards", *SMALLER, "train.global_batch=16", "data.workers=0", "log.every=1"]
    words = ["mmae", "ladder", "debug", *recipe, "--out", "out", "--sizes", "nano,micro", "--budgets"]
    with slurm_cluster(tmp_path_factory.mktemp("slurm")) as slurm:
        planned = command(*words, "32,64", "--slurm")
        assert planned.status == 0, planned.err
        array = submit(slurm, tmp_path)
        for task in range(4):
            assert slurm.ended(f"{array}_{task}")["JobState"] == "COMPLETED", slurm.logs()

        # Of the next budget Slurm stops one run, as at the end of its time: it queues itself again, and no other.
        more = [*words, "32,64,80k", "--slurm"]
        planned = command(*more)
        assert planned.out.count("| done ") == 4
        assert "the array, of 2 runs" in planned.out
        array = submit(slurm, tmp_path)
        runs = [tmp_path / "out" / "runs" / f"{size}-80k" for size in ("nano", "micro")]
        for run in runs:
            slurm.wait(array, partial(has_begun, run))
        # One task has the array's own number, as soon as both have started.
        own = next(task for task in (0, 1) if slurm.show(f"{array}_{task}")["JobId"] == str(array))
        slurm.do("scancel", "--batch", "--signal=USR1", f"{array}_{own}")
        slurm.wait(array, lambda: slurm.show(f"{array}_{own}")["JobState"] == "PENDING")
        assert slurm.show(f"{array}_{1 - own}")["JobState"] == "RUNNING"
        slurm.do("scontrol", "update", f"JobId={array}_{own}", "StartTime=now+3")
        slurm.wait(array, lambda: bool(records_so_far(runs[own], "resume")))
        for run in runs:
            (run / "stop").touch()
        for task in (0, 1):
            assert slurm.ended(f"{array}_{task}")["JobState"] == "COMPLETED", slurm.logs()
    assert [len(records_so_far(runs[task], "resume")) for task in (own, 1 - own)] == [1, 0]
    assert command(*more).out.count("| started ") == 2

    fitted = command(*words, "32,64")
    assert fitted.status == 0, fitted.err
    assert fitted.err.count("done before") == 4
    assert len(read_ladder(tmp_path / "out").rungs) == 4
    assert (tmp_path / "out" / "ladder.html").is_file()
