"""Reading a log from its end, while it is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmae.run.log_reader import LogRecords


def line(kind: str, step: int) -> str:
    return json.dumps({"kind": kind, "step": step}) + "\n"


def written(folder: Path, text: str) -> LogRecords:
    (folder / "log.jsonl").write_text(text)
    return LogRecords(folder / "log.jsonl")


def test_an_empty_log_holds_nothing(tmp_path: Path) -> None:
    for text in ("", "{", '{"kind": "train"'):
        log = written(tmp_path, text)
        assert log.last("train", "start") is None
        assert log.recent("train", 5, since=("start",)) == []
        assert log.torn == bool(text)


def test_the_newest_of_some_kinds(tmp_path: Path) -> None:
    log = written(tmp_path, line("start", 0) + line("train", 1) + line("val", 1) + line("train", 2) + line("save", 2))
    assert log.last("start") == {"kind": "start", "step": 0}
    assert log.last("train") == {"kind": "train", "step": 2}
    assert log.last("val", "train") == {"kind": "train", "step": 2}
    assert log.last("val") == {"kind": "val", "step": 1}
    assert log.last("end") is None
    assert not log.torn


def test_a_half_written_line_is_not_there_yet(tmp_path: Path) -> None:
    whole = line("start", 0) + line("train", 1)
    for cut in range(1, len(line("train", 2))):
        log = written(tmp_path, whole + line("train", 2)[:cut])
        assert log.last("train") == {"kind": "train", "step": 1}
        assert log.torn
    assert written(tmp_path, whole + line("train", 2)).last("train") == {"kind": "train", "step": 2}


def test_recent_records_are_of_this_start(tmp_path: Path) -> None:
    text = "".join([line("start", 0), *(line("train", step) for step in range(1, 6)), line("resume", 3)])
    assert written(tmp_path, text).recent("train", 9, since=("start", "resume")) == []
    log = written(tmp_path, text + "".join(line("train", step) for step in range(4, 9)))
    assert [record["step"] for record in log.recent("train", 3, since=("start", "resume"))] == [6, 7, 8]
    assert [record["step"] for record in log.recent("train", 9, since=("start", "resume"))] == [4, 5, 6, 7, 8]


def test_a_damaged_line_is_left_out(tmp_path: Path) -> None:
    torn = '{"kind": "train", "st\0\0\n'
    log = written(tmp_path, line("start", 0) + torn + line("train", 2) + torn + torn)
    assert [record["step"] for record in log.recent("train", 9, since=("start",))] == [2]
    assert log.last("train", "start") == {"kind": "train", "step": 2}
    assert written(tmp_path, torn).last("train") is None


def test_a_kind_within_a_record_is_no_record(tmp_path: Path) -> None:
    text = json.dumps({"kind": "save", "step": 1, "note": 'a\n{"kind": "train"'}) + "\n"
    assert written(tmp_path, text).last("train") is None


def test_steps_that_a_later_start_did_not_go_on_with_are_no_history(tmp_path: Path) -> None:
    """In logs of versions that left them where they were."""
    old = [line("start", 0), line("val", 2), line("train", 9), line("resume", 9), line("train", 12), line("val", 12)]
    log = written(tmp_path, "".join([*old, line("end", 12), line("resume", 9), line("train", 10)]))
    assert log.last("val") == {"kind": "val", "step": 2}
    assert log.last("end") is None
    assert [record["step"] for record in log.all("train")] == [9, 10]
    # Back further: what the start in between did is gone too.
    log = written(tmp_path, "".join([*old, line("resume", 10), line("val", 11), line("resume", 3)]))
    assert log.all("train") == []
    assert log.all("val") == [{"kind": "val", "step": 2}]
    assert log.last("resume", "start") == {"kind": "resume", "step": 3}
    assert log.recent("val", 5, since=("start", "resume")) == []


def test_a_record_without_a_step_is_at_none_and_one_with_a_word_for_it_is_damaged(tmp_path: Path) -> None:
    log = written(tmp_path, line("start", 0) + '{"kind": "train", "step": "x"}\n{"kind": "train"}\n')
    assert log.all("train") == [{"kind": "train"}]


def test_a_kind_that_is_rare_is_looked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = written(tmp_path, line("start", 0) + "".join(line("train", step) for step in range(50)))
    searched: list[str] = []
    search = LogRecords._search

    def counted(self: LogRecords, kind: str, end: int) -> int:
        searched.append(kind)
        return search(self, kind, end)

    monkeypatch.setattr(LogRecords, "_search", counted)
    for _ in range(3):
        assert log.last("eval") is None
        assert len(log.recent("train", 5, since=("start", "resume"))) == 5
    assert searched.count("eval") == searched.count("resume") == 1
