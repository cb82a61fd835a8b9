"""Trainings over hosts that go well, or are started again: real ssh, pdsh, names and addresses."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support.commands import Command, train_words
from tests.support.host_training import multi_node, resumed, saved, train
from tests.support.live import FOR_LONG, Live, losses_so_far
from tests.support.namespace_hosts import PORT, Host


def test_two_hosts_learn_what_two_local_ranks_learn_also_when_a_rank_is_killed(
    cluster: list[Host], synthetic_shards: Path, tmp_path: Path, command: Command
) -> None:
    # It ends when it is told to: it does not come to its end before the rank is killed, however late that is.
    overrides = ("train.max_steps=5000", "val.every=0", "checkpoint.every=2", "log.every=1", "train.rank_timeout=10")
    words = train(synthetic_shards, *overrides)
    options = ("--restarts", "1", "--ssh_port", str(PORT))
    with multi_node(cluster[0], tmp_path, (1, 1), words, *options, MMAE_PAUSE="0", WANDB_API_KEY="hunter2") as live:
        saved(live)
        os.kill(live.ranks()[1], signal.SIGKILL)
        assert resumed(live, steps=4) >= 2
        (live.folder / "stop").touch()
        done = live.finish(deadline=200)
        assert live.everything() == []
    assert done.status == 0, done.err
    assert "lost rank: rank 1 on node-2 cannot be reached" in done.err
    assert "multi_node.sh: lost a rank: restart 1 of 1" in done.err
    assert live.records("start")[0]["world"] == 2
    assert len(live.records("resume")) == 1
    assert "hunter2" not in done.out + done.err
    losses = losses_so_far(live.folder)
    assert len(losses) == max(losses) >= 6
    local = command(*train_words(synthetic_shards, "local", *overrides, f"train.stop_at={max(losses)}"))
    assert local.status == 0, local.err
    assert losses_so_far(tmp_path / "local") == losses


@pytest.mark.slow
def test_hosts_with_different_slots_save_and_go_on(
    cluster: list[Host], synthetic_shards: Path, tmp_path: Path, command: Command
) -> None:
    overrides = ("train.max_steps=6", "val.every=0", "log.every=1")
    local = command(*train_words(synthetic_shards, "local", *overrides, ranks=4))
    assert local.status == 0, local.err
    for words in (train(synthetic_shards, *overrides, "train.stop_at=3"), train(synthetic_shards, *overrides)):
        with multi_node(cluster[0], tmp_path, (1, 2, 1), words) as live:
            done = live.finish(deadline=300)
        assert done.status == 0, done.err
    assert live.records("start")[0]["world"] == 4
    assert live.records("resume")[0]["step"] == 3
    assert losses_so_far(live.folder) == losses_so_far(tmp_path / "local")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_launcher_stops_all_hosts(
    number: signal.Signals, cluster: list[Host], synthetic_shards: Path, tmp_path: Path
) -> None:
    with multi_node(cluster[0], tmp_path, (1, 1), train(synthetic_shards, *FOR_LONG)) as live:
        live.wait_for_step(2)
        assert len(live.ranks()) == 2
        os.kill(launcher_of(cluster[0], live), number)
        done = live.finish(deadline=60)
        assert live.everything() == []
    assert done.status == 0, done.err
    assert live.records("end")[-1]["reasons"] == ["the file stop"]
    assert not (tmp_path / "run" / "stop").exists()
    assert "go on with: bash" in done.err


def launcher_of(host: Host, live: Live) -> int:
    """The script's own process: who starts it on the host passes no signal on."""
    child = live.process.pid
    while b"mmae.launch.multi_node" not in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0"):
        child = int(Path(f"/proc/{child}/task/{child}/children").read_text().split()[0])
    assert host.pid != child
    return child
