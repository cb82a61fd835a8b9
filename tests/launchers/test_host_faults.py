"""What goes wrong with one of several hosts: named in one line, in the time that README states; and gone on from."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.host_training import (
    BY_HAND,
    WITHIN,
    another_version,
    multi_node,
    no_shards,
    nothing_left,
    on_host,
    refusing_ssh,
    resumed,
    said_last,
    saved,
    train,
)
from tests.support.live import FOR_LONG, Live
from tests.support.namespace_hosts import Host

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def begun(cluster: list[Host], synthetic_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a run of two steps lies in."""
    folder = tmp_path_factory.mktemp("begun")
    done = finished(cluster, folder, synthetic_shards, stop=2)
    assert done[0] == 0, done[1]
    return folder


def finished(cluster: list[Host], folder: Path, shards: Path, stop: int) -> tuple[int, str, float]:
    """Train over two hosts up to a step; status, stderr, seconds."""
    words = train(shards, "train.max_steps=20", "val.every=0", f"train.stop_at={stop}")
    began = time.monotonic()
    with multi_node(cluster[0], folder, (1, 1), words) as live:
        done = live.finish(deadline=200)
        seconds = time.monotonic() - began
        nothing_left(live)
    return done.status, done.err, seconds


@contextmanager
def cut_off(host: Host) -> Iterator[None]:
    host.cut_off()
    try:
        yield
    finally:
        host.join_again()


@contextmanager
def unknown(host: Host, others: list[Host]) -> Iterator[None]:
    """Its name, to all."""
    whole = {each: (each.etc / "hosts").read_text() for each in others}
    for each, text in whole.items():
        (each.etc / "hosts").write_text(text.replace(f"{host.address} {host.name}\n", ""))
    try:
        yield
    finally:
        for each, text in whole.items():
            (each.etc / "hosts").write_text(text)


@pytest.mark.parametrize(
    ("fault", "says", "within"),
    [
        (
            "refuses",
            "error: node-2: no ssh server answers there (ssh: connect to host node-2 port 22: Connection refused)",
            15,
        ),
        ("is cut off", "error: node-2: it does not answer (", 30),
        ("is unknown", "error: node-2: its name is unknown here (ssh: Could not resolve hostname node-2", 15),
        ("has another version", "mmae: error: rank 1 on node-2: mmae 90.1.0 (", WITHIN),
        ("has no shards", "mmae: error: rank 1 on node-2: {shards}: no index.json", WITHIN),
    ],
)
def test_a_host_that_is_not_as_it_must_be_is_named_and_the_run_goes_on_after_repair(
    fault: str, says: str, within: float, cluster: list[Host], begun: Path, synthetic_shards: Path, tmp_path: Path
) -> None:
    second = cluster[1]
    faults: dict[str, Callable[[], AbstractContextManager[None]]] = {
        "refuses": lambda: refusing_ssh(second),
        "is cut off": lambda: cut_off(second),
        "is unknown": lambda: unknown(second, cluster),
        "has another version": lambda: another_version(second, tmp_path),
        "has no shards": lambda: no_shards(second, tmp_path, synthetic_shards),
    }
    log = begun / "run" / "log.jsonl"
    before = log.read_text()
    step = before.count('"kind": "train"') + 1
    with faults[fault]():
        status, err, seconds = finished(cluster, begun, synthetic_shards, step)
    print(f"{fault}: {seconds:.0f} s: {said_last(err)}")
    assert status == 2, err
    assert says.format(shards=synthetic_shards) in said_last(err)
    assert "Traceback" not in err
    assert seconds < within
    assert log.read_text() == before
    status, err, _ = finished(cluster, begun, synthetic_shards, step)
    assert status == 0, err
    assert f"resuming at step {step - 1}" in err


@contextmanager
def killed(live: Live) -> Iterator[None]:
    os.kill(live.ranks()[1], signal.SIGKILL)
    yield


@pytest.mark.parametrize("fault", ["is cut off", "is killed", "first is cut off"])
def test_a_host_or_rank_lost_in_training_ends_all_and_the_run_goes_on(
    fault: str, cluster: list[Host], synthetic_shards: Path, tmp_path: Path
) -> None:
    words = train(synthetic_shards, *FOR_LONG, "checkpoint.every=2", "log.every=1")
    # From a host that runs no rank, so that each of those that do may be lost.
    lost = cluster[0] if fault.startswith("first") else cluster[1]
    with multi_node(cluster[2], tmp_path, (1, 1), words) as live:
        saved(live)
        began = time.monotonic()
        with killed(live) if fault == "is killed" else cut_off(lost):
            done = live.finish(deadline=200)
            seconds = time.monotonic() - began
            while left := [live.everything(), *(host.processes() for host in cluster)]:
                if not any(left) or time.monotonic() - began > WITHIN:
                    break
                time.sleep(0.2)
            alone = time.monotonic() - began
            assert left == [[], [], [], []]
    print(f"{fault}: launcher after {seconds:.0f} s, all after {alone:.0f} s: {said_last(done.err)}")
    assert done.status == 4, done.err
    rank = 0 if lost is cluster[0] else 1
    assert f"mmae: error: lost rank: rank {rank} on {lost.name} cannot be reached: " in said_last(done.err)
    assert "Traceback" not in done.err
    assert seconds < WITHIN
    with multi_node(cluster[2], tmp_path, (1, 1), words) as live:
        assert resumed(live) >= 2
        (tmp_path / "run" / "stop").touch()
        done = live.finish(deadline=200)
    assert done.status == 0, done.err


def test_hosts_whose_interfaces_lead_nowhere_end_in_time_and_the_interfaces_are_named(
    cluster: list[Host], synthetic_shards: Path, tmp_path: Path
) -> None:
    (tmp_path / "hosts").write_text("node-1 slots=1\nnode-2 slots=1\n")
    words = train(synthetic_shards, *FOR_LONG)
    began = time.monotonic()
    with ExitStack() as both:
        lives = []
        for number, host in enumerate(cluster[:2]):
            started = [*(word.format(number=number) for word in BY_HAND), *words]
            wrong = on_host(host, tmp_path, started, GLOO_SOCKET_IFNAME="lo", MMAE_JOIN_SECONDS="20")
            lives.append(both.enter_context(wrong))
        ended = [live.finish(deadline=200) for live in lives]
        seconds = time.monotonic() - began
        nothing_left(lives[0])
    print(f"{seconds:.0f} s: {said_last(ended[0].err)}")
    assert [done.status for done in ended] == [4, 4], [done.err for done in ended]
    said = said_last(ended[0].err)
    assert said.startswith("multi_node.sh: the first error: mmae: error: ")
    assert ": set GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME to the network interface that leads to the other" in said
    assert said.endswith("(now GLOO_SOCKET_IFNAME=lo on node-1, node-2)")
    assert "Traceback" not in ended[0].err + ended[1].err
    assert not (tmp_path / "run").exists()
    assert seconds < WITHIN + 20
