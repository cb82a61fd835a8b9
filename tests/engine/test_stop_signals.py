"""Reasons to stop, as one rank comes to know them."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
import torch

from mmae.engine.stop_signals import REASONS, SIGNALS, SLURM_RESERVE, Stop, how_to_go_on, names
from mmae.run.layout import STOP

CPU = torch.device("cpu")


class Time:
    """A clock that a test winds."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def stop(
    folder: Path, time: Time, rank: int = 0, max_hours: float | None = None, environment: dict[str, str] | None = None
) -> Stop:
    return Stop(folder, rank, max_hours, environment=environment or {}, clock=time, now=time)


def wanted(each: Stop) -> tuple[str, ...]:
    return names(each.wanted(CPU).tolist())


def test_nothing_to_stop_for(tmp_path: Path) -> None:
    each = stop(tmp_path, Time())
    assert each.wanted(CPU).tolist() == [0.0] * len(REASONS)
    # The very same tensor: a step in which nothing is new copies nothing to the device.
    assert each.wanted(CPU) is each.wanted(CPU)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_a_reason_and_ends_nothing(
    number: signal.Signals, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = {each: signal.getsignal(each) for each in SIGNALS}
    with stop(tmp_path, Time()) as each:
        os.kill(os.getpid(), number)
        assert wanted(each) == (number.name,)
        assert "stopping: finishing the step, saving" in capfd.readouterr().err
        each.doing = "saving"
        os.kill(os.getpid(), number)
        assert wanted(each) == (number.name,)
        assert f"{number.name}: saving, then the run ends; to end it without a save: kill -9" in capfd.readouterr().err
    assert {each: signal.getsignal(each) for each in SIGNALS} == before


def test_only_a_node_s_first_rank_answers(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    with stop(tmp_path, Time(), rank=1) as each:
        os.kill(os.getpid(), signal.SIGTERM)
        assert wanted(each) == ("SIGTERM",)
    assert capfd.readouterr().err == ""


def test_an_ignored_signal_stays_ignored(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        with stop(tmp_path, Time()) as each:
            os.kill(os.getpid(), signal.SIGUSR1)
            assert wanted(each) == ()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_max_hours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmae.engine.stop_signals._seconds_since_start", lambda: 600.0)
    time = Time()
    each = stop(tmp_path, time, max_hours=1.0)
    time.seconds += 2999
    assert wanted(each) == ()
    time.seconds += 1
    assert wanted(each) == ("train.max_hours",)


def test_the_end_of_a_slurm_job_leaves_time_for_the_longest_save(tmp_path: Path) -> None:
    time = Time()
    each = stop(tmp_path, time, environment={"SLURM_JOB_END_TIME": str(int(time.seconds + 1000))})
    each.saved(300.0)
    each.saved(20.0)
    end = time.seconds + 1000
    time.seconds = end - SLURM_RESERVE - 301
    assert wanted(each) == ()
    time.seconds += 2
    assert wanted(each) == ("the end of the Slurm job",)


def test_slow_steps_are_counted_in(tmp_path: Path) -> None:
    time = Time()
    each = stop(tmp_path, time, environment={"SLURM_JOB_END_TIME": str(int(time.seconds + 1000))})
    wanted(each)
    time.seconds += 200
    # It is read two steps later, each of which may take as long again.
    assert wanted(each) == ()
    time.seconds += 200
    assert wanted(each) == ("the end of the Slurm job",)


@pytest.mark.parametrize("text", ["", "soon", "nan"])
def test_a_job_end_that_cannot_be_read_is_ignored(text: str, tmp_path: Path) -> None:
    assert wanted(stop(tmp_path, Time(), environment={"SLURM_JOB_END_TIME": text})) == ()


def test_the_file_stop_is_looked_for_once_a_second_by_rank_0_and_taken_away_when_obeyed(tmp_path: Path) -> None:
    time = Time()
    first, second = stop(tmp_path, time), stop(tmp_path, time, rank=1)
    assert wanted(first) == ()
    (tmp_path / STOP).touch()
    time.seconds += 0.9
    assert wanted(first) == ()
    time.seconds += 0.2
    assert wanted(first) == ("the file stop",)
    assert wanted(second) == ()
    first.obeyed(("SIGTERM",))
    second.obeyed(("the file stop",))
    assert (tmp_path / STOP).exists()
    first.obeyed(("SIGTERM", "the file stop"))
    assert not (tmp_path / STOP).exists()


def test_how_to_go_on_names_the_command_without_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    words = [
        "--local_rank=0",
        "--config",
        "vit_b",
        "data.shards=[https://me:secret@host/a?key=b,/local]",
        "run.dir=a b",
    ]
    monkeypatch.setattr(sys, "argv", ["train.py", *words])
    monkeypatch.delenv("MMAE_COMMAND", raising=False)
    line = how_to_go_on(7, Path("runs/x/checkpoints/global_step7"), ("SIGTERM", "train.max_hours"), 4)
    assert line == (
        "stopped at step 7 (SIGTERM and train.max_hours), saved in runs/x/checkpoints/global_step7; go on with: "
        "deepspeed --num_gpus 4 --module mmae.train --config vit_b "
        "'data.shards=[https://***@host/a?***,/local]' 'run.dir=a b'"
    )
    monkeypatch.setenv("MMAE_COMMAND", "bash launch.sh data.shards=s3://a:b@c/d data.shards=pipe:curl\\ -u\\ b\\ {}")
    line = how_to_go_on(0, None, ("SIGINT",), 4)
    assert line.endswith(
        "there was nothing to save; go on with: bash launch.sh 'data.shards=s3://***@c/d' 'data.shards=pipe:curl ***'"
    )
