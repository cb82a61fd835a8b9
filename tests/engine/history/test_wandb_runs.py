"""Which W&B run holds which steps, as the log tells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mmae.engine.history.record_archive import archive_records
from mmae.engine.history.wandb_runs import new_run, records_to_take_over


def write(log: Path, kind: str, step: int, **values: Any) -> None:
    with log.open("a") as file:
        file.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")


def trained(log: Path, begin: int, end: int, wandb: bool = True) -> str | None:
    """A start that trains from one step to another; its W&B run."""
    run = new_run(log, begin)
    about = {"wandb": run.name, "wandb_from": run.after} if wandb else {}
    write(log, "resume" if begin else "start", begin, **about)
    for step in range(begin + 1, end + 1):
        write(log, "train", step)
    return run.name if wandb else None


def back_to(log: Path, step: int) -> None:
    archive_records(log.parent, step, log.parent / f"archive-{step}")


def taken_over(log: Path, step: int) -> tuple[tuple[str, ...], list[int]]:
    run = new_run(log, step)
    return run.archived, [record["step"] for record in records_to_take_over(log, run)]


def test_a_run_takes_over_nothing_where_nothing_was_archived(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    assert taken_over(log, 0) == ((), [])
    first = trained(log, 0, 5)
    assert taken_over(log, 5) == ((), [])
    assert new_run(log, 5).name != first


def test_the_next_run_takes_over_the_remaining_records_of_archived_runs(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    trained(log, 0, 5)
    second, third = trained(log, 5, 9), trained(log, 9, 12)
    back_to(log, 7)
    # The third began later, so none of its records are left.
    assert taken_over(log, 7) == ((second, third), [6, 7])
    # A start without W&B in between changes nothing.
    trained(log, 7, 8, wandb=False)
    assert taken_over(log, 8) == ((second, third), [6, 7, 8])
    fourth = trained(log, 8, 10)
    assert taken_over(log, 10) == ((), [])
    # What it took over leaves with it.
    back_to(log, 9)
    assert taken_over(log, 9) == ((fourth,), [6, 7, 8, 9])


def test_records_that_are_written_meanwhile_are_not_taken_over(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    trained(log, 0, 5)
    back_to(log, 3)
    run = new_run(log, 3)
    records = records_to_take_over(log, run)
    write(log, "train", 4)
    assert [record["step"] for record in records] == [1, 2, 3]


def test_foreign_names_are_left_alone(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    write(log, "start", 0, wandb="../*", wandb_from=0)
    write(log, "train", 5)
    (tmp_path / "wandb" / "run-1-x").mkdir(parents=True)
    back_to(log, 3)
    assert new_run(log, 3).archived == ()
    assert (tmp_path / "wandb" / "run-1-x").is_dir()
