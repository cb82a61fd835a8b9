"""Records whose fields hold what no training writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mmae.cli import main
from mmae.run.log_reader import record_of
from mmae.run.record_fields import is_sound
from tests.support.reported_run import START, history, write_run

BAD: list[dict[str, Any]] = [
    {"step": "a"}, {"step": float("nan")}, {"time": "yesterday"}, {"time": float("inf")}, {"time": 1e20},
    {"loss": [1]}, {"losses": [1, 2]}, {"losses": {"rgb": "x"}}, {"scored": 3}, {"scores": {"a": {"b": 1}}},
    {"failed": {"a": 1}}, {"units": {"a": 1}}, {"why": ["x"]}, {"error": {"a": 1}}, {"reasons": "x"},
    {"reasons": [1]}, {"world": "two"}, {"max_steps": 10**400}, {"device_peak_tflops": "x"}, {"host": 3},
    {"ema": 3}, {"ema": {}}, {"ema": {"losses": [1]}}, {"ema": {"losses": {}, "lost": 3}},
]  # fmt: skip


@pytest.mark.parametrize("fields", BAD)
def test_a_field_that_holds_what_it_cannot_makes_a_damaged_record(fields: dict[str, Any]) -> None:
    assert not is_sound({"kind": "train", "step": 1, "time": 1.0, **fields})
    assert record_of(json.dumps({"kind": "train", **fields}).encode()) == {}


def test_null_and_unknown_fields_are_no_damage() -> None:
    assert is_sound({"kind": "train", "loss": None, "mfu": None, "loss_scale": None, "later": {"x": [1, {}]}})


def test_every_command_that_reads_logs_takes_one_full_of_bad_records(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start: dict[str, Any] = {"kind": "start", **START}
    for number, fields in enumerate(BAD):
        kinds = ("start", "train", "val", "eval", "save", "end")
        bad = [{"kind": kind, "step": 50, "time": 1050.0, **fields} for kind in kinds]
        bad += [{"kind": kind, "losses": None, "scored": None, "scores": None, "lost": None} for kind in kinds[1:4]]
        write_run(tmp_path / f"{number:02d}", [start, *history()[1:5], *bad])
    assert main(["runs", str(tmp_path)]) == 0
    assert main(["status", str(tmp_path / "00")]) in {0, 1}
    folders = [str(tmp_path / f"{number:02d}") for number in range(6)]
    assert main(["report", *folders, "--out", str(tmp_path / "page.html")]) == 0
    assert "Traceback" not in capsys.readouterr().err
