"""`launchers/slurm.sbatch`: a rank for each task of a Slurm job; queued again until the training is done."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from mmae.errors import InputError
from mmae.launch.entry import entry, is_dry_run, remember_call, take_restarts
from mmae.launch.requeue import Ended, decide, most_requeues, why_unfinished
from mmae.launch.supervision.first_error import first_of_log
from mmae.launch.supervision.launched_job import Job, unblock_signals
from mmae.launch.supervision.supervise import supervise
from mmae.launch.training_words import training_config
from mmae.run.layout import CHECKPOINT_GLOB, CHECKPOINTS

SCRIPT: Final = "slurm.sbatch"
GRACE_S: Final = 240
_KILL_WAIT_S: Final = 30
"""Slurm's own default."""
_STDERR: Final = Path("/proc/self/fd/2")
# A task is a rank. It sees all GPUs of its node, and LOCAL_RANK says which is its own.
_RANK: Final = """export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS
export LOCAL_WORLD_SIZE=${SLURM_STEP_TASKS_PER_NODE%%[!0-9]*}; exec python -u -m mmae.train "$@\""""
# --export: for a job that was submitted with --export=NONE, or with a list, srun would pass neither PATH nor our own
# variables.
_SRUN: Final = ("srun", "--export=ALL", "--kill-on-bad-exit=0", "--wait=120", "--gpu-bind=none")


class SlurmStep(Job):
    """The ranks of a job, all started by one `srun`.

    Args:
        run: the run's folder.
        restarts: how often the launch may start again.
    """

    def __init__(self, command: Sequence[str], run: Path, restarts: int) -> None:
        super().__init__(SCRIPT, command)
        self._number = _job_number()
        self._run = run
        self._restarts = restarts
        self._before = self._checkpoints()
        self._log_begin = _size_of_log()

    def ask(self, _: signal.Signals) -> bool:
        # srun passes this signal on to all tasks, but takes SIGINT and a second SIGTERM as its own.
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGUSR1)
        return True

    def seconds_to_stop(self, number: signal.Signals, grace: float) -> float:
        # When Slurm itself ends a job, it kills everything KillWait seconds after its SIGTERM.
        if number != signal.SIGTERM or " JobState=RUNNING " in self._shown():
            return grace
        told = re.search(r"^KillWait *= *(\d+)", _scontrol("show", "config"), re.MULTILINE)
        return min(grace, (int(told[1]) if told else _KILL_WAIT_S) * 3 // 4)

    def conclude(self, status: int) -> int:
        if status and self._log_begin is not None and (line := first_of_log(_lines_of_log(self._log_begin))):
            self.say(f"first error: {line}")
        if self._is_to_be_requeued(status):
            _scontrol("requeue", self._number)
        return status

    def _is_to_be_requeued(self, status: int) -> bool:
        try:
            why = why_unfinished(status, self.stopping, self._restarts, self._run)
        except InputError as error:
            self.say(f"{error}")
            return False
        if why is None:
            return False
        ended = Ended(
            self.stopping, self._before, self._checkpoints(), self._shown(),
            int(os.environ.get("SLURM_RESTART_COUNT") or 0), most_requeues(os.environ),
        )  # fmt: skip
        again, line = decide(ended, why)
        self.say(line)
        return again

    def _shown(self) -> str:
        return _scontrol("show", "job", "--oneliner", self._number)

    def _checkpoints(self) -> list[str]:
        return sorted(path.name for path in (self._run / CHECKPOINTS).glob(CHECKPOINT_GLOB))


def meeting_node(nodes: str) -> str:
    """The first node's name or, where that is not known outside Slurm, its address in Slurm.

    Args:
        nodes: SLURM_JOB_NODELIST.

    Raises:
        InputError: Slurm does not name it.
    """
    names = _scontrol("show", "hostnames", nodes).split()
    if not names:
        raise InputError(f"SLURM_JOB_NODELIST={nodes}: scontrol does not name its nodes: is Slurm's controller up?")
    if _succeeds("getent", "hosts", names[0]):
        return names[0]
    told = re.search(r" NodeAddr=(\S+)", _scontrol("show", "node", "--oneliner", names[0]))
    return told[1] if told else names[0]


def _job_number() -> str:
    """By which Slurm knows this job alone. One task of an array has the number that also means the whole array."""
    array, task = (os.environ.get(f"SLURM_ARRAY_{what}_ID") for what in ("JOB", "TASK"))
    return f"{array}_{task}" if array and task else os.environ["SLURM_JOB_ID"]


def submit_command() -> str:
    """`sbatch`, with the options that the job has."""
    words = [f"sbatch --nodes={os.environ.get('SLURM_JOB_NUM_NODES') or 1}"]
    for option, name in (
        ("ntasks-per-node", "SLURM_NTASKS_PER_NODE"),
        ("gpus-per-node", "SLURM_GPUS_PER_NODE"),
        ("partition", "SLURM_JOB_PARTITION"),
    ):
        if value := os.environ.get(name):
            words.append(f"--{option}={value}")
    return " ".join(words)


def _scontrol(*words: str) -> str:
    """What `scontrol` prints; nothing if it fails."""
    done = subprocess.run(
        ["scontrol", *words],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        preexec_fn=unblock_signals,
    )
    return done.stdout


def _succeeds(*words: str) -> bool:
    return subprocess.run(words, stdout=subprocess.DEVNULL, check=False).returncode == 0


def _size_of_log() -> int | None:
    """Bytes so far in the job's log, which is stderr; None if stderr is not a file."""
    with suppress(OSError):
        about = _STDERR.stat()
        return about.st_size if stat.S_ISREG(about.st_mode) else None
    return None


def _lines_of_log(begin: int) -> list[str]:
    with suppress(OSError), _STDERR.open("rb") as log:
        log.seek(begin)
        return log.read().decode(errors="replace").splitlines()
    return []


@entry
def main(*words: str) -> int:
    restarts, training = take_restarts(words)
    nodes = os.environ.get("SLURM_JOB_NODELIST")
    if not nodes:
        raise InputError("this is not a Slurm job: give the script to sbatch")
    most_requeues(os.environ)
    run = Path(training_config(training).run.dir)
    remember_call(SCRIPT, words, program=submit_command())
    os.environ["MASTER_ADDR"] = meeting_node(nodes)
    port = 20_000 + int(os.environ["SLURM_JOB_ID"]) % 10_000
    os.environ["MASTER_PORT"] = os.environ.get("MASTER_PORT") or str(port)
    os.environ["MMAE_GRACE"] = os.environ.get("MMAE_GRACE") or str(GRACE_S)
    command = [*_SRUN, f"--cpus-per-task={os.environ.get('SLURM_CPUS_PER_TASK') or 1}", "bash", "-c", _RANK, "mmae"]
    command += training
    return 0 if is_dry_run(command) else supervise(SlurmStep(command, run, restarts), restarts)


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
