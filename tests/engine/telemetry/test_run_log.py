"""The record of a run."""

from __future__ import annotations

import json
import logging
import sys
import types
import warnings
from pathlib import Path

import pytest

from mmae.config.schema import Config, LogConfig, TrainConfig
from mmae.engine.telemetry.rank_log import RankLog
from mmae.engine.telemetry.run_log import RunLog
from tests.support.full_disk import REASON, files_up_to
from tests.support.terminals import stderr_on_a_terminal

QUIET = Config(log=LogConfig(wandb=False))


def records(file: Path) -> list[dict[str, object]]:
    return [json.loads(line, parse_constant=pytest.fail) for line in file.read_text().splitlines()]


def test_records_are_standard_json_and_appended(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    for step in (1, 2):
        log = RunLog(file, QUIET, rank=0, first_step=step)
        log.write("train", step=step, loss=float("nan"), losses={"rgb": float("inf"), "depth": 0.5})
        log.close()
    assert [record["step"] for record in records(file)] == [1, 2]
    assert records(file)[0]["loss"] is None
    assert records(file)[0]["losses"] == {"rgb": None, "depth": 0.5}


def test_other_ranks_write_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = RunLog(tmp_path / "log.jsonl", QUIET, rank=1, first_step=0)
    log.write("train", step=1)
    log.progress(1, 0.5, 1.0)
    log.say("nothing")
    log.say_error("nothing")
    log.close()
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr().err == ""


def test_the_line_that_ends_a_training_is_marked_as_an_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = RunLog(tmp_path / "log.jsonl", QUIET, rank=0, first_step=0)
    log.say("a step was left out")
    log.say_error("lost numbers")
    log.close()
    assert capfd.readouterr().err.splitlines()[-2:] == ["a step was left out", "mmae: error: lost numbers"]


@pytest.mark.parametrize("fails_at", ["init", "log", "finish"])
def test_wandb_never_stops_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fails_at: str
) -> None:
    def call(name: str) -> None:
        if name == fails_at:
            raise RuntimeError("the service is down")

    class Run:
        def define_metric(self, *_: object, **__: object) -> None: ...

        def log(self, *_: object) -> None:
            call("log")

        def finish(self) -> None:
            call("finish")

    def init(**_: object) -> Run:
        call("init")
        return Run()

    fake = types.ModuleType("wandb")
    fake.__dict__.update(init=init, Settings=lambda **_: None)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    log = RunLog(tmp_path / "log.jsonl", Config(), rank=0, first_step=0)
    log.write("train", step=1, loss=0.5)
    log.write("train", step=2, loss=0.4)
    log.close()
    assert len(records(tmp_path / "log.jsonl")) == 2
    assert capsys.readouterr().err.count("training goes on without it") == 1


def test_a_half_written_line_is_left_behind(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    file.write_text('{"kind": "train", "step": 1}\n{"kind": "tra')
    log = RunLog(file, QUIET, rank=0, first_step=1)
    log.write("resume", step=1)
    log.close()
    log.close()
    first, torn, last = file.read_text().splitlines()
    assert json.loads(last)["kind"] == "resume"
    assert (first, torn) == ('{"kind": "train", "step": 1}', '{"kind": "tra')


def test_a_full_disk_costs_records_and_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = RunLog(tmp_path / "log.jsonl", QUIET, rank=0, first_step=0)
    with files_up_to(0):
        for step in range(3):
            log.write("train", step=step)
    log.write("train", step=3)
    log.close()
    assert capsys.readouterr().err.count(REASON) == 1
    assert [record["step"] for record in records(tmp_path / "log.jsonl")] == [3]


def test_one_progress_line_stays_whole_between_messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "showwarning", lambda said, *_: print(said, file=sys.stderr))
    config = Config(log=LogConfig(wandb=False), train=TrainConfig(max_steps=1000))
    with stderr_on_a_terminal(80) as screen:
        ranks = RankLog(0, speaks=True)
        log = RunLog(tmp_path / "log.jsonl", config, rank=0, first_step=0)
        log.progress(500, 12.3456, 1234.5)
        warnings.showwarning("a library warns", UserWarning, "library.py", 3)
        log.say("a message")
        logging.getLogger("library").warning("a library logs")
        with log.pause("validating"):
            log.tell("step 500: ", "word " * 30)
        log.close()
        ranks.close()
    assert [line for line in screen.lines if "step 500 of 1000" in line] == screen.lines[-1:]
    assert "loss 12.3456, 1234.5 tiles/s, 00:0" in screen.lines[-1]
    assert screen.lines[-1].startswith(" 50%|")
    for said in ("a library warns", "a message", "a library logs"):
        assert said in screen.lines


def test_a_pause_is_shown_while_it_lasts(tmp_path: Path) -> None:
    with stderr_on_a_terminal(80) as screen:
        log = RunLog(tmp_path / "log.jsonl", QUIET, rank=0, first_step=0)
        log.progress(1, 0.5, 1.0)
        with log.pause("validating"):
            during = str(log._bar)
        log.close()
    assert ", validating, " in during
    assert "loss 0.5000" in screen.lines[-1]


def test_a_file_gets_steps_of_how_many_and_the_time_left(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = Config(log=LogConfig(wandb=False), train=TrainConfig(max_steps=30))
    log = RunLog(tmp_path / "log.jsonl", config, rank=0, first_step=10)
    log.progress(20, 0.5, 1.0)
    log.close()
    assert capfd.readouterr().err == "step 20 of 30: loss 0.5000, 1.0 tiles/s, 00:00 left\n"
