from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmae.engine.stop_signals import REASONS
from mmae.launch.stopped import OF_A_SCHEDULER, main, stopped_by_scheduler


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
def test_only_what_a_scheduler_stopped_goes_on(why: str, reasons: list[str], expected: bool, tmp_path: Path) -> None:
    assert (stopped_by_scheduler(ended(tmp_path, why, reasons)) is not None) is expected


def test_the_reasons_are_those_that_runs_give() -> None:
    assert set(REASONS) > OF_A_SCHEDULER


def test_without_a_run_the_answer_is_no(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(str(tmp_path)) == 2
    assert "no run lives here" in capsys.readouterr().err
