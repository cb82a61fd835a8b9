"""Reading a whole log in seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mmae.report import history
from mmae.report.history import read_history
from tests.support.reported_run import START, step_record, val_record


def write(path: Path, *records: dict[str, Any] | str) -> Path:
    path.write_text("".join(record if isinstance(record, str) else json.dumps(record) + "\n" for record in records))
    return path


def steps_of(path: Path) -> list[int]:
    return [record["step"] for record in read_history(path).steps]


def test_every_kind_is_read_in_order(tmp_path: Path) -> None:
    log = write(
        tmp_path / "log.jsonl", {"kind": "start", **START}, step_record(1), val_record(1), step_record(2),
        {"kind": "eval", "time": 1, "step": 2, "scores": {"accuracy": 0.5}}, {"kind": "trainer", "step": 3},
    )  # fmt: skip
    found = read_history(log)
    assert [record["step"] for record in found.steps] == [1, 2]
    assert {kind: len(records) for kind, records in found.others.items()} == {
        "start": 1, "val": 1, "eval": 1, "trainer": 1
    }  # fmt: skip
    assert found.of("eval", "val")[0]["scores"] == {"accuracy": 0.5}
    assert (found.lines, found.step_lines, found.damaged) == (6, 2, 0)


def test_nothing_is_read_of_nothing(tmp_path: Path) -> None:
    assert steps_of(tmp_path / "none") == []
    assert steps_of(write(tmp_path / "empty")) == []
    found = read_history(write(tmp_path / "torn", '{"kind": "tra'))
    assert (found.lines, found.damaged) == (0, 1)


def test_damaged_and_half_lines_are_counted_and_left_out(tmp_path: Path) -> None:
    log = write(
        tmp_path / "log.jsonl", {"kind": "start", **START}, step_record(1), '{"kind": "train", "step": \n',
        "\x00\xff\n", '{"kind": "val", "step": 3]\n', "\n", step_record(4), '{"kind": "train", "step": 5',
    )  # fmt: skip
    assert steps_of(log) == [1, 4]
    assert read_history(log).damaged == 5


def test_steps_that_a_later_start_went_back_before_are_left_out(tmp_path: Path) -> None:
    log = write(
        tmp_path / "log.jsonl", {"kind": "start", **START}, *map(step_record, (1, 2, 3, 4)), val_record(4),
        {"kind": "resume", **START, "step": 2}, *map(step_record, (3, 4, 5)), {"kind": "resume", **START, "step": 4},
        step_record(5),
    )  # fmt: skip
    assert steps_of(log) == [1, 2, 3, 4, 5]
    assert read_history(log).of("val") == []


def test_many_steps_are_an_even_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MOST_STEPS", 5)
    monkeypatch.setattr(history, "_CHUNK", 64)
    log = write(tmp_path / "log.jsonl", {"kind": "start", **START}, *map(step_record, range(1, 101)), val_record(100))
    found = read_history(log)
    assert [record["step"] for record in found.steps] == [1, 26, 51, 75, 100]
    assert (found.steps[0]["step"], found.steps[-1]["step"], found.step_lines) == (1, 100, 100)
    assert len(found.of("val")) == 1
