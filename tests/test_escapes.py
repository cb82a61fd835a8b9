"""Names from files and paths, with what steers a terminal in them, in each way in which text leaves."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

import pytest

from data_tools.verify.check_set import Report, tell
from data_tools.verify.differences import Difference, Findings
from mmae.cli import main
from mmae.config.schema import Config, LogConfig
from mmae.data.shards.index_json import Loss
from mmae.data.shards.reader import DamagedTile
from mmae.engine.telemetry.run_log import RunLog
from mmae.errors import InputError
from mmae.terminal.error_line import say_error
from mmae.terminal.table import Column, Table

NAME = "a\x1b]0;title\x07\u202eb\nmmae: error: forged\r"
SHOWN = r"a\x1b]0;title\x07\u202eb\nmmae: error: forged\r"


def lines(said: str) -> list[str]:
    """Lines that hold nothing but visible characters; nobody made one of a name's."""
    found = said.splitlines()
    assert all(line.isprintable() for line in found)
    assert not any(line.startswith("mmae: error: forged") for line in found)
    return found


def test_in_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(tmp_path / NAME), "out"]) == 2
    (line,) = lines(capsys.readouterr().err)
    assert SHOWN in line
    assert lines(str(InputError(NAME))) == [SHOWN]
    (line,) = lines(str(DamagedTile(tmp_path / NAME, 3, NAME, 7, NAME)))
    assert line.count(SHOWN) == 3


def test_in_the_last_line_of_a_rank(capfd: pytest.CaptureFixture[str]) -> None:
    say_error(NAME)
    assert lines(capfd.readouterr().err) == [SHOWN]


def test_in_tables() -> None:
    table = Table(NAME, (Column("a", "a"), Column("b", "b")), [{"a": NAME, "b": 1}], [NAME])
    found = lines(table.text())
    assert len(found) == 6
    assert all(SHOWN in found[place] for place in (0, 3, 5))
    # As wide as what is shown.
    assert len({len(line) for line in found[1:4]}) == 1


def test_in_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / NAME
    run.mkdir()
    records = [
        {"kind": "start", "step": 0, "host": NAME},
        {"kind": "val", "step": 1, "losses": {NAME: 0.5}},
        {"kind": "end", "step": 1, "why": "error", "error": NAME},
    ]
    text = "".join(json.dumps({"kind": record["kind"], "time": time.time(), **record}) + "\n" for record in records)
    (run / "log.jsonl").write_text(text)
    assert main(["status", str(run)]) == 1
    found = lines(capsys.readouterr().out)
    # Long lines are broken at spaces, and go on behind two or more.
    assert not any(line.startswith("mmae:") for line in found)
    text = re.sub(r"\s+", " ", " ".join(found))
    assert f"{SHOWN}: failed" in text
    assert f"{SHOWN} 0.5" in text
    assert main(["status", str(run), "--json"]) == 1
    assert len(lines(capsys.readouterr().out)) == 1


def test_in_what_is_found_in_shards(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(Findings(), losses=(Loss(3, NAME, NAME, NAME),))
    report.of_set.add([Difference(NAME, 3, NAME, NAME)])
    tell(report, NAME)
    found = lines(capsys.readouterr().out)
    assert len(found) == 3
    assert [line.count(SHOWN) for line in found] == [3, 3, 1]


def test_in_what_a_run_says(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    log = RunLog(tmp_path / "log.jsonl", Config(log=LogConfig(wandb=False)), rank=0, first_step=0)
    monkeypatch.setattr(sys, "stderr", sys.__stderr__)
    log.say(NAME)
    log.close()
    assert lines(capfd.readouterr().err) == [SHOWN]
