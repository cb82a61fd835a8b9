"""Which W&B run holds which steps, as the log tells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mmae.engine.history.record_archive import archive_records
from mmae.engine.history.wandb_runs import records_to_take_over, run_of_start


def write(log: Path, kind: str, step: int, **values: Any) -> None:
    with log.open("a") as file:
        file.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")


def trained(log: Path, begin: int, end: int, wandb: bool = True, can_go_on: bool = False) -> str | None:
    """A start that trains from one step to another; its W&B run."""
    run = run_of_start(log, begin, can_go_on)
    about = {"wandb": run.name, "wandb_from": run.after} if wandb else {}
    write(log, "resume" if begin else "start", begin, **about)
    for step in range(begin + 1, end + 1):
        write(log, "train", step)
    return run.name if wandb else None


def back_to(log: Path, step: int) -> None:
    archive_records(log.parent, step, log.parent / f"archive-{step}")


def taken_over(log: Path, step: int) -> tuple[tuple[str, ...], list[int]]:
    run = run_of_start(log, step, False)
    return run.archived, [record["step"] for record in records_to_take_over(log, run)]


def test_a_run_takes_over_nothing_where_nothing_was_archived(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    assert taken_over(log, 0) == ((), [])
    first = trained(log, 0, 5)
    assert taken_over(log, 5) == ((), [])
    assert run_of_start(log, 5, False).name != first


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
    run = run_of_start(log, 3, False)
    records = records_to_take_over(log, run)
    write(log, "train", 4)
    assert [record["step"] for record in records] == [1, 2, 3]


def test_foreign_names_are_left_alone(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    write(log, "start", 0, wandb="../*", wandb_from=0)
    write(log, "train", 5)
    (tmp_path / "wandb" / "run-1-x").mkdir(parents=True)
    back_to(log, 3)
    assert run_of_start(log, 3, False).archived == ()
    assert (tmp_path / "wandb" / "run-1-x").is_dir()


def test_a_start_goes_on_with_the_run_before_where_that_is_possible(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    first = trained(log, 0, 5, can_go_on=True)
    found = run_of_start(log, 5, True)
    assert (found.name, found.after, found.archived, found.goes_on) == (first, 0, (), True)
    assert trained(log, 5, 9, can_go_on=True) == first
    assert not run_of_start(log, 9, False).goes_on


def test_after_going_back_a_new_run_repeats_the_history_and_later_starts_go_on_with_it(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    first = trained(log, 0, 5, can_go_on=True)
    trained(log, 5, 9, can_go_on=True)
    back_to(log, 7)
    found = run_of_start(log, 7, True)
    assert (found.goes_on, found.archived, found.after) == (False, (first,), 0)
    assert [record["step"] for record in records_to_take_over(log, found)] == [1, 2, 3, 4, 5, 6, 7]
    second = trained(log, 7, 8, can_go_on=True)
    assert second != first
    assert run_of_start(log, 8, True).name == second
