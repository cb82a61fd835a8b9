"""`slurm.sbatch` in a real Slurm of two nodes, a rank on each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import synthetic_shards  # noqa: F401 (a fixture)
from tests.integration.launch import ROOT, SMALL, command_environment, run_command, train_words
from tests.launchers.slurm_cluster import Slurm, slurm_cluster, why_not

STEPS = 60
PLAN = (f"train.max_steps={STEPS}", "checkpoint.every=20", "val.every=0", "log.every=1")
ON_CPUS = ("--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=1", "--gpus-per-node=0")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    if reason := why_not():
        pytest.skip(reason)
    with slurm_cluster(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def uninterrupted(synthetic_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Any]:  # noqa: F811
    """Losses by step of two local ranks."""
    folder = tmp_path_factory.mktemp("local")
    done = run_command(*train_words(synthetic_shards, "run", *PLAN), cwd=folder)
    assert done.status == 0, done.err
    return losses(folder / "run")


@dataclass(frozen=True)
class Job:
    """A submitted training, in a folder of its own."""

    slurm: Slurm
    number: int
    folder: Path

    @property
    def log(self) -> str:
        file = self.folder / f"mmae-{self.number}.log"
        return file.read_text() if file.exists() else ""

    def wait_for_step(self, step: int) -> None:
        self.slurm.wait(self.number, lambda: max(losses(self.folder / "run"), default=0) >= step)

    def ended(self) -> dict[str, str]:
        return self.slurm.ended(self.number)


def submit(slurm: Slurm, folder: Path, shards: Path, *overrides: str, options: tuple[str, ...] = (),
           restarts: int = 0, **environment: str) -> Job:  # fmt: skip
    words = ["sbatch", "--parsable", *ON_CPUS, *options, str(ROOT / "launchers" / "slurm.sbatch")]
    words += ["--restarts", str(restarts)] if restarts else []
    words += ["--config", "debug", "--deepspeed_config", "zero1", f"data.shards={shards}", "run.dir=run", *SMALL]
    env = command_environment(MMAE_ROOT=str(ROOT), PYTHONPATH=str(ROOT), **environment)
    return Job(slurm, int(slurm.do(*words, *overrides, cwd=folder, **env)), folder)


def records(run: Path, kind: str) -> list[dict[str, Any]]:
    file = run / "log.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return [record for record in map(json.loads, lines) if record["kind"] == kind]


def losses(run: Path) -> dict[int, Any]:
    return {record["step"]: record["losses"] for record in records(run, "train")}


def test_a_requeued_job_goes_on_by_itself_as_if_nothing_had_been(
    slurm: Slurm,
    uninterrupted: dict[int, Any],
    synthetic_shards: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    job = submit(slurm, tmp_path, synthetic_shards, *PLAN)
    job.wait_for_step(3)
    slurm.do("scontrol", "requeue", str(job.number))
    slurm.hurry(job.number)
    shown = job.ended()
    assert (shown["JobState"], shown["ExitCode"], shown["Restarts"]) == ("COMPLETED", "0:0", "1"), job.log
    stopped, finished = records(tmp_path / "run", "end")
    assert stopped["why"] == "stopped"
    assert "SIGTERM" in stopped["reasons"]
    assert 3 <= stopped["step"] < STEPS
    assert finished["why"] == "finished"
    assert [record["world"] for record in records(tmp_path / "run", "resume")] == [2]
    assert losses(tmp_path / "run") == uninterrupted
    assert "Slurm has queued it again" in job.log
