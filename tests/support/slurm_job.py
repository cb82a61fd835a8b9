"""Small trainings through `sbatch launchers/slurm.sbatch`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.support.commands import SMALL, command_environment, free_port
from tests.support.live import losses_so_far
from tests.support.paths import ROOT
from tests.support.slurm_cluster import Slurm

ON_CPUS = ("--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=1", "--gpus-per-node=0")
"""What nodes without GPUs need said."""


@dataclass(frozen=True)
class Job:
    """A submitted training, in a folder of its own."""

    slurm: Slurm
    number: int
    folder: Path

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def log(self) -> str:
        file = self.folder / f"mmae-{self.number}.log"
        return file.read_text() if file.exists() else ""

    @property
    def state(self) -> str:
        return self.slurm.show(self.number)["JobState"]

    def wait_for_step(self, step: int) -> None:
        self.slurm.wait(self.number, lambda: max(losses_so_far(self.run), default=0) >= step)

    def hurry(self) -> None:
        """Once it is queued again, let it start soon, where Slurm would have it wait for two minutes.

        Not at once: a node refuses a start within the second in which it killed the one before.
        """
        self.slurm.wait(self.number, lambda: self.state == "PENDING")
        self.slurm.do("scontrol", "update", f"JobId={self.number}", "StartTime=now+3")

    def ended(self) -> tuple[str, str, int]:
        """Its last state, exit status (and signal), and how often it was queued again."""
        shown = self.slurm.ended(self.number)
        return shown["JobState"], shown["ExitCode"], int(shown["Restarts"])

    def cancel(self) -> None:
        self.slurm.do("scancel", str(self.number))


def submit(slurm: Slurm, folder: Path, shards: Path, *overrides: str, options: tuple[str, ...] = (),
           restarts: int = 0, **environment: str) -> Job:  # fmt: skip
    words = ["sbatch", "--parsable", *ON_CPUS, *options, str(ROOT / "launchers" / "slurm.sbatch")]
    words += ["--restarts", str(restarts)] if restarts else []
    words += ["--config", "debug", "--deepspeed_config", "zero1", f"data.shards={shards}", "run.dir=run", *SMALL]
    # Every new Slurm's first job is number 1, and would take the same port.
    environment.setdefault("MASTER_PORT", str(free_port()))
    env = command_environment(MMAE_ROOT=str(ROOT), PYTHONPATH=str(ROOT), **environment)
    return Job(slurm, int(slurm.do(*words, *overrides, cwd=folder, **env)), folder)
