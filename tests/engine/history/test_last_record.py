"""The last record of a training, written by whoever is left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmae.engine.history.last_record import write_end
from mmae.run.state import read_run

START = json.dumps({"kind": "start", "time": 1.0, "step": 0}) + "\n"


@pytest.mark.parametrize("torn", ["", '{"kind": "tr'])
def test_status_says_what_it_says(tmp_path: Path, torn: str) -> None:
    (tmp_path / "log.jsonl").write_text(START + torn)
    write_end(tmp_path / "log.jsonl", 7, "lost rank 1: rank 1 on a is gone")
    found = read_run(tmp_path)
    assert (found.state, found.why, found.step) == ("failed", "lost rank 1: rank 1 on a is gone", 7)
    assert (tmp_path / "log.jsonl").read_text().startswith(START + (torn and torn + "\n"))


def test_a_log_that_is_empty_or_missing_is_no_trouble(tmp_path: Path) -> None:
    write_end(tmp_path / "log.jsonl", 7, "x")
    assert not (tmp_path / "log.jsonl").exists()
    (tmp_path / "log.jsonl").touch()
    write_end(tmp_path / "log.jsonl", 7, "x")
    assert json.loads((tmp_path / "log.jsonl").read_text())["error"] == "x"
