"""How a run does, told from its folder."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mmae.errors import InputError
from mmae.processes import started
from mmae.run import state as state_module
from mmae.run.locking.lock_owner import this_process
from mmae.run.state import alive, read_run

HOST = socket.gethostname()


@pytest.fixture(scope="module")
def gone() -> int:
    """The pid of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
        return process.pid


class Run:
    """A run folder whose records a test writes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = time.time()

    def write(self, kind: str, ago: float, **values: Any) -> None:
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps({"kind": kind, "time": self.now - ago, **values}) + "\n")

    def start(self, ago: float, pid: int | None = os.getpid(), host: str = HOST, **values: Any) -> None:
        known = {"max_steps": 1000, "stop": 1000, "log_every": 10, "checkpoint_every": 100, "world": 2}
        self.write("start", ago, **{"step": 0, **known, "pid": pid, "host": host, **values})

    def train(self, step: int, ago: float, **values: Any) -> None:
        known = {"loss": 1.5, "data_wait_share": 0.01, "step_seconds": 1.0, "slowest_rank": 0}
        self.write(
            "train", ago, step=step, **{**known, "slowest_step_seconds": 1.0, "median_step_seconds": 1.0, **values}
        )

    def checkpoint(self, name: str, ago: float) -> None:
        path = self.folder / "checkpoints" / name
        path.mkdir(parents=True)
        os.utime(path, (self.now - ago, self.now - ago))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Its time stands still, however long a test takes."""
    made = Run(tmp_path)
    now = made.now
    monkeypatch.setattr(state_module, "time", SimpleNamespace(time=lambda: now))
    return made


def test_a_training_run(run: Run) -> None:
    run.start(ago=300)
    for step in range(10, 110, 10):
        # A step a second, and a minute for the validation in the middle.
        run.train(step, ago=160 - step - (60 if step > 50 else 0))
    run.checkpoint("global_step90", ago=12)
    run.checkpoint("global_step100", ago=2)
    run.checkpoint("global_step100_universal", ago=1)
    found = read_run(run.folder)
    assert (found.state, found.step, found.max_steps) == ("training", 100, 1000)
    assert found.seconds_left == pytest.approx(900 * 150 / 90, rel=1e-3)
    assert found.checkpoint == str(run.folder / "checkpoints" / "global_step100")
    assert found.checkpoint_age == pytest.approx(2, abs=0.1)
    assert found.warnings == []


def test_a_start_without_records_of_steps(run: Run) -> None:
    run.start(ago=10)
    found = read_run(run.folder)
    assert (found.state, found.step, found.train, found.seconds_left) == ("starting", 0, None, None)


def test_a_checkpoint_that_is_being_written(run: Run) -> None:
    run.start(ago=10)
    run.train(10, ago=1)
    run.checkpoint(".saving-global_step10", ago=0)
    found = read_run(run.folder)
    assert (found.state, found.checkpoint) == ("saving", None)


@pytest.mark.process
@pytest.mark.parametrize(
    ("record", "state", "why"),
    [
        ({"kind": "end", "why": "finished"}, "finished", "finished"),
        ({"kind": "end", "why": "stopped"}, "stopped", "stopped"),
        (
            {"kind": "end", "why": "stopped", "reasons": ["SIGTERM", "train.max_hours"]},
            "stopped",
            "SIGTERM and train.max_hours",
        ),
        ({"kind": "end", "why": "lost numbers"}, "failed", "lost numbers"),
        ({"kind": "end", "why": "error", "error": "RuntimeError: x"}, "failed", "RuntimeError: x"),
    ],
)
def test_a_run_that_said_how_it_ended(run: Run, gone: int, record: dict[str, Any], state: str, why: str) -> None:
    run.start(ago=9000, pid=gone)
    run.train(10, ago=8000)
    run.write(record.pop("kind"), 7000, step=10, **record)
    found = read_run(run.folder)
    assert (found.state, found.why, found.seconds_left) == (state, why, None)


@pytest.mark.process
def test_a_process_that_is_gone_died(run: Run, gone: int) -> None:
    run.start(ago=10, pid=gone)
    run.train(10, ago=1)
    assert read_run(run.folder).state == "died"
    # Another start holds the run by now, and has not written yet.
    (run.folder / ".lock").write_text(this_process().render())
    assert read_run(run.folder).state == "training"
    # A later process with the same number.
    (run.folder / ".lock").write_text(replace(this_process(), started="1").render())
    assert read_run(run.folder).state == "died"
    for broken in ("", "{", "[]", '{"host": "x"}', '{"host": "x", "pid": "y"}'):
        (run.folder / ".lock").write_text(broken)
        assert read_run(run.folder).state == "died"


@pytest.mark.parametrize(("host", "pid"), [("elsewhere", 1), (HOST, os.getpid())], ids=["elsewhere", "here"])
def test_a_long_silence_is_told(run: Run, host: str, pid: int) -> None:
    run.start(ago=9000, host=host, pid=pid)
    run.train(10, ago=110)
    assert read_run(run.folder).state == "training"
    run.train(20, ago=100, step_seconds=30.0)
    # Slow steps are no silence, but hours are.
    assert read_run(run.folder).state == "training"
    run.now -= 9000
    run.train(30, ago=0)
    found = read_run(run.folder)
    assert found.state == "silent"
    assert "no record for 9" in found.warnings[0]


def test_what_is_worth_a_warning(run: Run) -> None:
    run.start(ago=3000)
    run.train(10, ago=900)
    run.train(20, ago=10, loss=None, data_wait_share=0.4, slowest_rank=7, slowest_step_seconds=1.6)
    run.checkpoint("global_step0", ago=40_000)
    for rank, count in ((0, 2), (1, 1)):
        (run.folder / f"damaged_rank{rank}.jsonl").write_text("{}\n" * count)
    found = read_run(run.folder)
    assert found.damaged_tiles == 3
    for words in ("not a number", "waits for data 40%", "rank 7 is 1.6 times", "3 damaged tiles", "last checkpoint is"):
        assert [warning for warning in found.warnings if words in warning], words


@pytest.mark.process
def test_a_half_written_end_of_the_log(run: Run, gone: int) -> None:
    run.start(ago=100, pid=gone)
    run.train(10, ago=50)
    with (run.folder / "log.jsonl").open("a") as file:
        file.write('{"kind": "train", "step": 20, "lo')
    found = read_run(run.folder)
    assert (found.state, found.step) == ("died", 10)
    assert "half-written" in found.warnings[0]


def test_records_of_an_older_start_give_no_speed(run: Run) -> None:
    run.start(ago=90_000)
    run.train(400, ago=89_000)
    run.write("resume", 5, step=400, max_steps=1000, stop=500, log_every=10, checkpoint_every=100, pid=1, host="x")
    found = read_run(run.folder)
    assert (found.state, found.step, found.stop, found.seconds_left) == ("starting", 400, 500, None)
    assert found.train is not None


def test_a_log_of_an_earlier_version(run: Run) -> None:
    run.write("start", 50, step=0, world=1)
    run.write("train", 10, step=10, loss=1.0, losses={"rgb": 1.0})
    found = read_run(run.folder)
    assert (found.state, found.max_steps, found.seconds_left) == ("training", None, None)


def test_folders_that_are_no_runs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run lives here"):
        read_run(tmp_path)
    with pytest.raises(InputError, match="no run lives here"):
        read_run(tmp_path / "nowhere")
    (tmp_path / "log.jsonl").write_text('{"kind": "sta')
    with pytest.raises(InputError, match="no record of a start yet"):
        read_run(tmp_path)


@pytest.mark.process
def test_whether_a_process_lives(gone: int) -> None:
    assert alive(HOST, os.getpid(), None) is True
    assert alive(HOST, os.getpid(), started(os.getpid())) is True
    assert alive(HOST, os.getpid(), "1") is False
    assert alive(HOST, 1, None) is True
    assert alive(HOST, gone, None) is False
    assert alive("elsewhere", 1, None) is None
    assert alive(HOST, None, None) is None
