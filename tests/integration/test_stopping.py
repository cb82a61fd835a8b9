"""A training that is asked to stop: by signals, limits and a file, through the real commands."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import torch

from tests.support.commands import LAUNCHER, SMALL, Command, launcher_words, train_words
from tests.support.compare import checkpoint_tensors
from tests.support.group import Job, run_jobs
from tests.support.live import FOR_LONG, started


def test_a_signal_to_one_rank_stops_all_at_one_step_and_nothing_is_lost(synthetic_shards: Path, tmp_path: Path) -> None:
    recipe = (*FOR_LONG, "model.task_balancer=uncertainty")
    with started(train_words(synthetic_shards, "run", *recipe), tmp_path, "run") as live:
        live.wait_for_step(2)
        os.kill(live.ranks()[1], signal.SIGTERM)
        done = live.finish()
        assert live.everything() == []
    assert done.status == 0, done.err
    step = done.last_json["step"]
    assert f"stopped at step {step} (SIGTERM), saved in run/checkpoints/global_step{step}; go on with: " in done.err
    assert f"data.shards={synthetic_shards}" in done.err.partition("go on with: ")[2]
    assert [(record["step"], record["reasons"]) for record in live.records("end")] == [(step, ["SIGTERM"])]

    end = step + 3
    words = (f"data.shards={synthetic_shards}", *SMALL, *recipe, f"train.stop_at={end}")
    ended = run_jobs([Job("whole", "zero1", words), Job("run", "zero1", words)], 2, tmp_path)
    assert {job.status for job in ended.values()} == {0}, ended
    assert live.records("resume")[-1]["step"] == step
    expected, seen = (
        checkpoint_tensors(tmp_path / run / "checkpoints" / f"global_step{end}") for run in ("whole", "run")
    )
    assert expected.keys() == seen.keys()
    assert [name for name in expected if not torch.equal(expected[name], seen[name])] == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP])
def test_the_launcher_passes_signals_on(number: signal.Signals, synthetic_shards: Path, tmp_path: Path) -> None:
    with started(launcher_words(synthetic_shards, "run", *FOR_LONG), tmp_path, "run") as live:
        live.wait_for_step(2)
        live.process.send_signal(number)
        time.sleep(0.05)
        live.process.send_signal(number)
        done = live.finish()
        assert live.everything() == []
    assert done.status == 0, done.err
    named = "SIGTERM" if number == signal.SIGHUP else number.name
    assert f"stopped at step {done.last_json['step']} ({named})" in done.err
    assert f"go on with: bash {LAUNCHER} --config debug" in done.err


@pytest.mark.slow
def test_a_second_interrupt_says_what_goes_on(synthetic_shards: Path, tmp_path: Path) -> None:
    words = train_words(synthetic_shards, "run", *FOR_LONG, "train.micro_batch=1", ranks=1)
    with started(words, tmp_path, "run") as live:
        live.wait_for_step(1)
        for _ in range(2):
            os.kill(live.ranks()[0], signal.SIGINT)
            time.sleep(0.1)
        done = live.finish()
    assert done.status == 0, done.err
    assert "mmae: SIGINT: stopping: finishing the step, saving, then the run ends" in done.err
    assert "then the run ends; to end it without a save: kill -9" in done.err


@pytest.mark.slow
def test_limits_of_time_stop_a_run(synthetic_shards: Path, tmp_path: Path, command: Command) -> None:
    first = command(*train_words(synthetic_shards, "run", *FOR_LONG, "train.max_hours=0.012"))
    assert first.status == 0, first.err
    step = first.last_json["step"]
    assert 0 < step < 5000
    assert f"stopped at step {step} (train.max_hours), saved in" in first.err
    # Its job ends so soon that nothing may begin.
    words = train_words(synthetic_shards, "run", *FOR_LONG)
    again = command(*words, SLURM_JOB_END_TIME=str(int(time.time()) + 90))
    assert again.status == 0, again.err
    assert again.last_json["step"] == step
    assert f"stopped at step {step} (the end of the Slurm job), saved in run/checkpoints/global_step{step}" in again.err


@pytest.mark.slow
def test_a_signal_before_the_ranks_have_met_ends_at_once(synthetic_shards: Path, tmp_path: Path) -> None:
    with started(launcher_words(synthetic_shards, "run", *FOR_LONG), tmp_path, "run") as live:
        while not any("bin/deepspeed" in Path(f"/proc/{pid}/cmdline").read_text() for pid in live.everything()):
            time.sleep(0.05)
        live.process.send_signal(signal.SIGTERM)
        done = live.finish(deadline=60)
        assert live.everything() == []
    assert done.status == 128 + signal.SIGTERM, done.err
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.slow
def test_a_launcher_that_is_killed_leaves_ranks_that_save_and_end(synthetic_shards: Path, tmp_path: Path) -> None:
    with started(launcher_words(synthetic_shards, "run", *FOR_LONG), tmp_path, "run") as live:
        live.wait_for_step(2)
        live.process.kill()
        # stderr is closed when all have ended.
        done = live.finish(deadline=200)
        assert live.everything() == []
    assert done.status == -signal.SIGKILL
    assert f"stopped at step {done.last_json['step']} (SIGTERM), saved in" in done.err


@pytest.mark.slow
def test_ranks_that_do_not_stop_are_killed_after_the_grace(synthetic_shards: Path, tmp_path: Path) -> None:
    words = launcher_words(synthetic_shards, "run", *FOR_LONG)
    with started(words, tmp_path, "run", MMAE_GRACE="2") as live:
        live.wait_for_step(2)
        os.kill(live.ranks()[0], signal.SIGSTOP)
        live.process.send_signal(signal.SIGTERM)
        done = live.finish(deadline=60)
        assert live.everything() == []
    assert done.status == 128 + signal.SIGKILL, done.err
    assert "the ranks did not stop within 2 s and are killed" in done.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "status", "why"),
    [
        ("train.max_steps=2", 0, None),
        ("train.blr=1e38", 3, ": lost numbers: step "),
    ],
)
def test_the_launcher_gives_the_ranks_status_and_error_and_does_not_start_again(
    override: str, status: int, why: str | None, synthetic_shards: Path, tmp_path: Path, command: Command
) -> None:
    words = launcher_words(
        synthetic_shards, "run", "val.every=0", "train.max_bad_steps=2", override, options=("--restarts", "2")
    )
    done = command(*words)
    assert done.status == status, done.err
    assert "restart" not in done.err
    last = done.err.splitlines()[-1]
    if why is None:
        assert "first error" not in done.err
    else:
        assert last.startswith("single_node.sh: the first error: mmae: error: ")
        assert why in last
