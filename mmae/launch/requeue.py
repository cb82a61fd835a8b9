"""Whether a Slurm job that has ended is queued again, to go on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mmae.errors import EXIT_BAD_INPUT, EXIT_LOST_NUMBERS, EXIT_LOST_RANK, InputError
from mmae.run.state import read_run

OF_A_SCHEDULER: Final = frozenset({"SIGTERM", "SIGUSR1", "the end of the Slurm job"})
_END_OF_TIME: Final = "SIGUSR1"
"""Slurm sends it before the end of a job's time, as `--signal` says."""
_WANTED: Final = re.compile(r" (JobState=(RUNNING|PREEMPTED)|Reason=TimeLimit|PreemptTime=[0-9])")
_RESTARTS: Final = re.compile(r" Restarts=(\d+) ")


@dataclass(frozen=True)
class Ended:
    """A job whose ranks have ended.

    Attributes:
        stopping: name of the last signal that asked the ranks to stop; empty for none.
        before, after: names of the run's checkpoints before and after the launch.
        shown: what `scontrol show job` says.
        requeues: how often the job had been queued again when it began.
        most_requeues: how often it may be.
    """

    stopping: str
    before: list[str]
    after: list[str]
    shown: str
    requeues: int
    most_requeues: int


def stopped_by_scheduler(run: Path) -> str | None:
    """The reasons, if all of them are a scheduler's; a user's limit, or the file `stop`, shall not be undone.

    Raises:
        InputError: the folder holds no run.
    """
    found = read_run(run)
    reasons = set(found.why.split(" and "))
    return found.why if found.state == "stopped" and reasons <= OF_A_SCHEDULER else None


def why_unfinished(status: int, stopping: str, restarts: int, run: Path) -> str | None:
    """Why the training may go on in another job; None if it is done, has failed, or was stopped by its user.

    Args:
        status: exit status of the launch.
        stopping: name of the last signal that asked the ranks to stop; empty for none.
        restarts: how often the launch might start again.

    Raises:
        InputError: the folder holds no run.
    """
    if status == 0:
        return stopped_by_scheduler(run)
    if stopping and status not in {EXIT_BAD_INPUT, EXIT_LOST_NUMBERS}:
        return "before the ranks could save"
    return "a rank was lost" if status == EXIT_LOST_RANK and restarts else None


def most_requeues(environment: Mapping[str, str]) -> int:
    """How often a job may be queued again, from MMAE_REQUEUES; 99 times if that is not set.

    Raises:
        InputError: it is not a number.
    """
    said = environment.get("MMAE_REQUEUES") or "99"
    if not (said.isascii() and said.isdigit()):
        raise InputError(f"MMAE_REQUEUES={said}: not a number of times, as in MMAE_REQUEUES=99")
    return int(said)


def decide(ended: Ended, why: str) -> tuple[bool, str]:
    """Whether to queue the job again, and a line that says so.

    Args:
        why: the reason why the training is unfinished.
    """
    told = f"stopped ({why}), not finished"
    again = _RESTARTS.search(ended.shown)
    if again and int(again[1]) > ended.requeues:
        return False, f"{told}: Slurm has queued it again"
    # While a job ends its state is COMPLETING, also when it was cancelled.
    if " Requeue=0 " in ended.shown or not _WANTED.search(ended.shown):
        return False, f"{told}: cancelled, and not queued again"
    if ended.requeues >= ended.most_requeues:
        return False, f"{told}, but queued again {ended.requeues} times already (MMAE_REQUEUES)"
    if _in_vain(ended, why):
        return False, f"{told}, and nothing new is saved: another attempt would get no further"
    return True, f"{told}: queueing again"


def _in_vain(ended: Ended, why: str) -> bool:
    """Whether as much time, or as many ranks, would again save nothing. A preemption may come at any time."""
    as_before = ended.stopping == _END_OF_TIME or "the end of the Slurm job" in why or "a rank was lost" in why
    return as_before and ended.before == ended.after
