from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mmae.engine.stop_signals import REASONS
from mmae.errors import InputError
from mmae.launch.requeue import OF_A_SCHEDULER, Ended, decide, most_requeues, stopped_by_scheduler, why_unfinished


def ended(folder: Path, why: str, reasons: list[str]) -> Path:
    begin = {"kind": "start", "time": 1, "step": 0, "max_steps": 9}
    end = {"kind": "end", "time": 2, "step": 3, "why": why, "reasons": reasons}
    (folder / "log.jsonl").write_text(f"{json.dumps(begin)}\n{json.dumps(end)}\n")
    return folder


@pytest.mark.parametrize(
    ("why", "reasons", "expected"),
    [
        ("stopped", ["SIGUSR1"], True),
        ("stopped", ["SIGTERM", "the end of the Slurm job"], True),
        ("stopped", ["SIGINT"], False),
        ("stopped", ["SIGUSR1", "the file stop"], False),
        ("stopped", ["train.max_hours"], False),
        ("stopped", [], False),
        ("finished", ["SIGUSR1"], False),
        ("lost numbers", [], False),
    ],
)
def test_only_a_run_that_a_scheduler_stopped_goes_on(
    why: str, reasons: list[str], expected: bool, tmp_path: Path
) -> None:
    assert (stopped_by_scheduler(ended(tmp_path, why, reasons)) is not None) is expected


def test_the_reasons_are_those_that_runs_give() -> None:
    assert set(REASONS) > OF_A_SCHEDULER


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run lives here"):
        stopped_by_scheduler(tmp_path)


RUNNING = "JobId=41 JobState=RUNNING Reason=None Requeue=1 Restarts=0 PreemptTime=None Nice=0"
ENDED = Ended("", ["global_step2"], ["global_step2", "global_step4"], RUNNING, 0, 99)


@pytest.mark.parametrize(
    ("ended", "again", "said"),
    [
        (ENDED, True, "queueing again"),
        (replace(ENDED, after=ENDED.before), False, "nothing new is saved"),
        (replace(ENDED, shown=RUNNING.replace("Restarts=0", "Restarts=1")), False, "Slurm has queued it again"),
        (replace(ENDED, shown=RUNNING.replace("RUNNING", "COMPLETING")), False, "cancelled, and not queued again"),
        (replace(ENDED, shown=RUNNING.replace("Requeue=1", "Requeue=0")), False, "cancelled, and not queued again"),
        (replace(ENDED, shown=""), False, "cancelled, and not queued again"),
        (replace(ENDED, requeues=3, most_requeues=3), False, "queued again 3 times already"),
    ],
)
def test_a_job_that_lost_a_rank_is_queued_again_where_that_helps(ended: Ended, again: bool, said: str) -> None:
    decided, line = decide(ended, "a rank was lost")
    assert decided is again
    assert line.startswith("stopped (a rank was lost), not finished")
    assert said in line


@pytest.mark.parametrize(
    ("status", "stopping", "restarts", "why"),
    [
        (4, "", 1, "a rank was lost"),
        (4, "", 0, None),
        (1, "", 1, None),
        (1, "SIGUSR1", 1, "before the ranks could save"),
        (2, "SIGUSR1", 1, None),
        (3, "SIGTERM", 1, None),
    ],
)
def test_a_job_is_unfinished_when_its_ranks_were_stopped_or_lost(
    status: int, stopping: str, restarts: int, why: str | None, tmp_path: Path
) -> None:
    assert why_unfinished(status, stopping, restarts, tmp_path) == why


@pytest.mark.parametrize(("said", "most"), [({}, 99), ({"MMAE_REQUEUES": ""}, 99), ({"MMAE_REQUEUES": "0"}, 0)])
def test_an_empty_number_of_requeues_means_the_default(said: dict[str, str], most: int) -> None:
    assert most_requeues(said) == most


@pytest.mark.parametrize("said", ["often", "-1", "1.5"])
def test_an_invalid_number_of_requeues_is_refused(said: str) -> None:
    with pytest.raises(InputError, match=f"MMAE_REQUEUES={said}: not a number of times"):
        most_requeues({"MMAE_REQUEUES": said})
