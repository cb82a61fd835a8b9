"""How a training ends: what was recorded is written, and errors come out as they should."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
import torch.distributed as dist

from mmae import train
from mmae.config.batch_split import BatchSplit
from mmae.config.schema import Config, LogConfig
from mmae.engine.telemetry import run_exit
from mmae.engine.telemetry.run_exit import RunEnd, write_end
from mmae.engine.telemetry.run_log import RunLog
from mmae.engine.telemetry.step_observer import StepObserver
from mmae.errors import DoesNotFitError, InputError
from mmae.run.folder import RunFolder
from mmae.run.locking.lock import RunLock
from mmae.run.spec import RunSpec
from mmae.run.state import read_run

CONFIG = Config(log=LogConfig(wandb=False))


class Records:
    """Has one record that has arrived, and one that never will."""

    step = 2
    closed = False

    def arrived(self) -> list[dict[str, Any]]:
        return [{"step": 1, "loss": 0.5}]

    def drain(self) -> None:
        raise AssertionError("after an error a device may never come to the rest")

    def close(self) -> None:
        self.closed = True


@pytest.fixture(params=[0, 1])
def rank(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    rank: int = request.param
    monkeypatch.setattr(dist, "get_rank", lambda: rank)
    monkeypatch.setattr(run_exit, "is_local_main", lambda: rank == 0)
    return rank


def run(folder: Path, rank: int, error: BaseException | None, watched: bool = False) -> Records:
    plan = SimpleNamespace(config=CONFIG, folder=RunFolder(folder), split=BatchSplit(8, 1, 2), zero_stage=1)
    records = Records()
    with RunEnd(cast(RunSpec, plan), watched) as end:
        log = RunLog(folder / "log.jsonl", CONFIG, rank, 0)
        end.open(log, cast(StepObserver, SimpleNamespace(records=records, close=records.close)))
        if error is not None:
            raise error
    return records


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_good_end_adds_nothing(tmp_path: Path, rank: int, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, rank, None).closed
    assert rank == 1 or lines(tmp_path) == []
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("error", [RuntimeError("gone\nand more"), KeyboardInterrupt("gone"), InputError("gone")])
def test_an_error_comes_out_and_is_recorded(tmp_path: Path, rank: int, error: BaseException) -> None:
    with pytest.raises(type(error)) as raised:
        run(tmp_path, rank, error)
    assert raised.value is error
    if rank == 0:
        train, end = lines(tmp_path)
        assert (train["kind"], train["step"]) == ("train", 1)
        assert (end["kind"], end["step"], end["why"], end["error"]) == (
            "end", 2, "error", f"{type(error).__name__}: gone"
        )  # fmt: skip


def test_bad_input_that_one_rank_finds_is_printed_by_it(
    tmp_path: Path, rank: int, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError):
        run(tmp_path, rank, InputError("a shard is damaged"))
    # The first rank of a node is spoken for by the command.
    assert capfd.readouterr().err == ("mmae: error: rank 1: a shard is damaged\n" if rank == 1 else "")


def test_a_refusal_of_the_system_is_one_line_and_its_traceback_stays_in_the_file(
    tmp_path: Path, rank: int, capfd: pytest.CaptureFixture[str]
) -> None:
    refused = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/x")
    with pytest.raises(OSError, match="No space left") as raised:
        run(tmp_path, rank, refused)
    assert not run_exit.was_said(raised.value)
    said = "mmae: error: rank 1: /data/x: No space left on device: make room there, then run again\n"
    assert capfd.readouterr().err == (said if rank == 1 else "")
    assert "Traceback" in (tmp_path / "logs" / f"rank_{rank}.log").read_text()


def test_a_failure_names_its_log_file(tmp_path: Path, rank: int, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError):
        run(tmp_path, rank, RuntimeError("gone"))
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.endswith(f"RuntimeError: gone: traceback in {tmp_path}/logs/rank_{rank}.log")


def test_no_memory_becomes_advice(tmp_path: Path, rank: int, capfd: pytest.CaptureFixture[str]) -> None:
    error = torch.OutOfMemoryError("CUDA out of memory.")
    with pytest.raises(DoesNotFitError, match=rf"rank {rank} is out of memory.*train.micro_batch=4") as raised:
        run(tmp_path, rank, error)
    assert raised.value.__cause__ is error
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("given", [False, True])
def test_a_save_that_is_being_written_ends_with_its_training(
    tmp_path: Path, rank: int, given: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the caller holds a lock, not before its release: others are told of the failure first."""
    waited: list[bool] = []

    def failing(_plan: RunSpec, _end: RunEnd, lock: RunLock, *_: object) -> int:
        lock.before_release(lambda: waited.append(True))
        raise ValueError("failed")

    monkeypatch.setattr(train, "_train", failing)
    lock = RunLock(None, 1.0) if given else None
    plan = SimpleNamespace(config=CONFIG, folder=RunFolder(tmp_path), split=BatchSplit(8, 1, 2), zero_stage=1)
    with pytest.raises(ValueError, match="failed"):
        train.train(cast(RunSpec, plan), lock)
    assert waited == ([] if given else [True])


@pytest.mark.parametrize("watched", [True, False])
def test_another_ranks_fault_is_recorded_by_the_watchdog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watched: bool
) -> None:
    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    monkeypatch.setattr(run_exit, "is_local_main", lambda: True)
    with pytest.raises(RuntimeError, match="gloo"):
        run(tmp_path, 0, RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer"), watched)
    assert [line["kind"] for line in lines(tmp_path)] == ["train"] + ["end"] * (not watched)


START = json.dumps({"kind": "start", "time": 1.0, "step": 0}) + "\n"


@pytest.mark.parametrize("torn", ["", '{"kind": "tr'])
def test_status_shows_an_end_that_was_recorded_without_the_log(tmp_path: Path, torn: str) -> None:
    (tmp_path / "log.jsonl").write_text(START + torn)
    write_end(tmp_path / "log.jsonl", 7, "lost rank 1: rank 1 on a is gone")
    found = read_run(tmp_path)
    assert (found.state, found.why, found.step) == ("failed", "lost rank 1: rank 1 on a is gone", 7)
    assert (tmp_path / "log.jsonl").read_text().startswith(START + (torn and torn + "\n"))


def test_an_end_is_recorded_in_an_empty_log_and_in_no_missing_one(tmp_path: Path) -> None:
    write_end(tmp_path / "log.jsonl", 7, "x")
    assert not (tmp_path / "log.jsonl").exists()
    (tmp_path / "log.jsonl").touch()
    write_end(tmp_path / "log.jsonl", 7, "x")
    assert json.loads((tmp_path / "log.jsonl").read_text())["error"] == "x"
