"""A rank that dies or hangs ends the job by name, and a launcher that may starts it again."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from mmae.run.state import read_run
from tests.support.commands import launcher_words, train_words
from tests.support.live import FOR_LONG, started


@pytest.mark.slow
def test_a_killed_rank_is_named_and_the_launcher_starts_again(synthetic_shards: Path, tmp_path: Path) -> None:
    words = [*FOR_LONG, "checkpoint.every=4", "data.workers=0"]
    again = launcher_words(synthetic_shards, "run", *words, options=("--restarts", "1"))
    with started(again, tmp_path, "run", MMAE_PAUSE="0") as live:
        live.wait_for_step(5)
        killed = live.ranks()[0]
        os.kill(killed, signal.SIGKILL)
        while not live.records("resume"):
            time.sleep(0.1)
        (tmp_path / "run" / "stop").touch()
        done = live.finish()
        assert live.everything() == []
    assert done.status == 0, done.err
    assert f"mmae: error: lost rank: rank 0 on {os.uname().nodename} is gone: its process has ended" in done.err
    assert "lost a rank: restart 1 of 1 in 0 s, from the last checkpoint" in done.err
    resumed = live.records("resume")[0]["step"]
    assert resumed >= 4
    assert resumed % 4 == 0
    assert "(the file stop)" in done.err
    assert not (tmp_path / "run" / "stop").exists()


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_lost_rank_ends_the_job(number: signal.Signals, rank: int, synthetic_shards: Path, tmp_path: Path) -> None:
    words = train_words(synthetic_shards, "run", *FOR_LONG, "train.rank_timeout=5")
    with started(words, tmp_path, "run") as live:
        live.wait_for_step(4)
        began = time.monotonic()
        os.kill(live.ranks()[rank], number)
        done = live.finish(deadline=90)
        seconds = time.monotonic() - began
        end = time.monotonic() + 8
        while live.everything() and time.monotonic() < end:
            time.sleep(0.1)
        assert live.everything() == []
    assert done.status in (4, 256 - signal.SIGKILL), done.err
    assert f"lost rank: rank {rank} on {os.uname().nodename} " in done.err
    # What the system takes to end processes on a busy machine comes on top.
    assert seconds < (30 if number == signal.SIGKILL else 45)
    assert not (tmp_path / "run" / "checkpoints").exists()
    found = read_run(tmp_path / "run")
    assert found.state == "failed"
    assert found.why.startswith(f"lost rank {rank}: rank {rank} on {os.uname().nodename} ")
