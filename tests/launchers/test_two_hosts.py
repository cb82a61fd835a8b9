"""A training over two hosts, with real ssh, pdsh and addresses."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import command, synthetic_shards  # noqa: F401 (fixtures)
from tests.integration.launch import ROOT, SMALL, Command, command_environment, train_words
from tests.integration.live import FOR_LONG, Live
from tests.launchers.two_hosts import PORT, two_hosts, why_not

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def first_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    if reason := why_not():
        pytest.skip(reason)
    with two_hosts(tmp_path_factory.mktemp("hosts")) as words:
        yield words


def launch(on: list[str], folder: Path, shards: Path, *overrides: str, options: tuple[str, ...] = ()) -> Live:
    (folder / "hosts").write_text("node-1 slots=1\nnode-2 slots=1\n")
    words = [*on, "bash", str(ROOT / "launchers" / "multi_node.sh"), "hosts", "--ssh_port", str(PORT), *options]
    words += ["--config", "debug", "--deepspeed_config", "zero1", f"data.shards={shards}", "run.dir=run", *SMALL]
    process = subprocess.Popen(
        [*words, *overrides], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=command_environment(PYTHONPATH=str(ROOT), WANDB_API_KEY="hunter2"),
    )  # fmt: skip
    return Live(process, folder / "run", "run")


def losses(live: Live) -> list[dict[str, float]]:
    return [record["losses"] for record in live.records("train")]


def test_two_hosts_learn_what_two_local_ranks_learn(
    first_host: list[str],
    synthetic_shards: Path,  # noqa: F811
    tmp_path: Path,
    command: Command,  # noqa: F811
) -> None:
    overrides = ("train.max_steps=4", "val.every=0")
    local = command(*train_words(synthetic_shards, "local", *overrides))
    assert local.status == 0, local.err
    live = launch(first_host, tmp_path, synthetic_shards, *overrides)
    done = live.finish(deadline=300)
    assert done.status == 0, done.err
    assert live.records("start")[0]["world"] == 2
    assert len(losses(live)) == 4
    assert losses(live) == losses(Live(live.process, tmp_path / "local", "local"))
    assert "hunter2" not in done.out + done.err


def test_a_signal_to_the_launcher_stops_both_hosts(
    first_host: list[str],
    synthetic_shards: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    live = launch(first_host, tmp_path, synthetic_shards, *FOR_LONG)
    live.wait_for_step(2)
    assert len(live.ranks()) == 2
    live.process.send_signal(signal.SIGTERM)
    done = live.finish(deadline=120)
    assert done.status == 0, done.err
    assert live.everything() == []
    assert live.records("end")[-1]["reasons"] == ["the file stop"]
    assert not (tmp_path / "run" / "stop").exists()
    assert "go on with: bash" in done.err


def test_a_lost_rank_on_the_other_host_is_started_again(
    first_host: list[str],
    synthetic_shards: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    options = ("--restarts", "1")
    live = launch(first_host, tmp_path, synthetic_shards, *FOR_LONG, "checkpoint.every=2", options=options)
    live.wait_for_step(3)
    subprocess.run(["kill", "-KILL", str(live.ranks()[1])], check=True)
    while not live.records("resume"):
        live.wait_for_step(3)
    live.process.send_signal(signal.SIGTERM)
    done = live.finish(deadline=120)
    assert done.status == 0, done.err
    assert "restart 1 of 1" in done.err
    assert live.everything() == []
