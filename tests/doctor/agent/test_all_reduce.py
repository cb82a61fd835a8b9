"""The all-reduce that measures the network: its arithmetic, and real ranks on loopback."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from mmae.distributed.launch_environment import NEEDED, check_launch
from mmae.doctor.agent.all_reduce import LEAST_BYTES, REPEATS, Task, bus_bandwidth, measured
from mmae.doctor.agent.ranks import RUNS, Ranks, RankSaid, variables_of
from mmae.doctor.bandwidth.diagnosis import diagnose
from mmae.processes import started
from tests.support.paths import ROOT


def sent_by_each(parts: int, ranks: int) -> float:
    """Bytes that each rank of a ring sends to reduce `parts` bytes on every rank, done in numpy."""
    whole = np.random.default_rng(ranks).integers(0, 9, (ranks, parts))
    held = [np.array_split(row.copy(), ranks) for row in whole]
    sent = np.zeros(ranks)
    for turn in range(2 * (ranks - 1)):
        moving = [(rank, (rank - turn) % ranks) for rank in range(ranks)]
        chunks = [held[rank][chunk].copy() for rank, chunk in moving]
        for (rank, chunk), content in zip(moving, chunks, strict=True):
            to = held[(rank + 1) % ranks]
            to[chunk] = to[chunk] + content if turn < ranks - 1 else content
            sent[rank] += len(content)
    for each in held:
        np.testing.assert_array_equal(np.concatenate(each), whole.sum(0))
    return float(sent.max())


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
def test_bus_bandwidth_is_what_a_ring_sends(ranks: int) -> None:
    assert bus_bandwidth(4800, 2.0, ranks) == pytest.approx(sent_by_each(4800, ranks) / 2.0)


@pytest.mark.parametrize(("rate", "size"), [(1e12, 64 << 20), (2e7, 16 << 20), (1e6, LEAST_BYTES)])
def test_the_size_is_what_the_time_allows(rate: float, size: int) -> None:
    spent: list[float] = []

    def timed(size: int) -> float:
        spent.append(size / rate)
        return spent[-1]

    found, seconds = measured(timed, 64 << 20, 10.0)
    assert found == size
    assert seconds == [size / rate] * REPEATS
    assert sum(spent) < 15


def test_a_small_bucket_is_reduced_whole() -> None:
    assert measured(lambda _: 1e-6, 4096, 10.0)[0] == 4096


def task(world: int, limit_s: float = 600.0) -> dict[str, object]:
    return {
        "token": secrets.token_hex(8), "world": world, "backend": "gloo", "address": "127.0.0.1",
        "meeting_place": "127.0.0.1", "most_bytes": 2 << 20, "seconds": 0.2, "limit_s": limit_s,
    }  # fmt: skip


@pytest.fixture
def ranks() -> Iterator[Ranks]:
    made = Ranks()
    yield made
    made.end()


def wait(ranks: Ranks, until: Callable[[list[RankSaid]], bool], seconds: float = 300.0) -> list[RankSaid]:
    end = time.monotonic() + seconds
    while not until(said := ranks.said()):
        assert time.monotonic() < end, said
        time.sleep(0.05)
    return said


@pytest.mark.process
def test_a_rank_that_dies_and_one_that_never_comes(ranks: Ranks) -> None:
    port = ranks.meet("127.0.0.1")
    # The third never comes.
    ranks.start(0, 2, task(3) | {"port": port})
    pids = children_of(os.getpid())
    assert len(pids) == 2
    wait(ranks, lambda said: {rank.phase for rank in said} == {"meet"})
    assert diagnose({"a": ranks.said()}, 8.0)[0][:2] == ("a", "rank 0 hung meeting the other ranks: 8 s are over")
    os.kill(pids[1], 9)
    said = wait(ranks, lambda said: said[1].status != RUNS)
    (found,) = diagnose({"a": said[:1], "b": said[1:]}, 8.0)
    assert found[:2] == ("b", "rank 1 was killed by signal 9 meeting the other ranks")
    ranks.end()
    assert children_of(os.getpid()) == []


BY_LAUNCHER = {
    "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_SIZE": "1", "MASTER_ADDR": "localhost",
    "MASTER_PORT": "9",
}  # fmt: skip
AS_THE_DOCTOR = """
import socket
from mmae.doctor.agent.all_reduce import Task, _work
listener = socket.create_server(("127.0.0.1", 0))
_work(Task("token", 0, 1, "gloo", "127.0.0.1", listener.getsockname()[1], listener.detach(), "", 4096, 0.1, 300.0))
"""
AS_A_TRAINING = """
import os
from mmae.distributed.network_interface import free_port
os.environ["MASTER_PORT"] = str(free_port())
from mmae.distributed.process_group import join
join()
"""
TOLD = """
import os, torch
from mmae.distributed.process_group import leave
leave()
names = ("MASTER_ADDR", "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
print("told", *(os.environ.get(name) for name in names), torch.get_num_threads())
"""


def told(program: str) -> str:
    own = {name: value for name, value in os.environ.items() if not name.endswith(("_IFNAME", "_THREADS"))}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program + TOLD], env={**own, **BY_LAUNCHER}, cwd=ROOT,
        stdout=subprocess.PIPE, text=True, check=True, timeout=600,
    )  # fmt: skip
    return done.stdout.splitlines()[-1]


@pytest.mark.process
def test_a_rank_prepares_itself_as_that_of_a_training() -> None:
    assert told(AS_THE_DOCTOR) == told(AS_A_TRAINING)
    assert told(AS_THE_DOCTOR).startswith("told 127.0.0.1 lo lo ")


def test_a_rank_gets_the_variables_of_a_launcher() -> None:
    made = Task(**task(12), rank=9, port=1234, listener=-1)  # type: ignore[arg-type]
    given = variables_of(made, 1, 4)
    check_launch(given)
    assert given.keys() == {*NEEDED, "LOCAL_SIZE"}
    assert [given[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_SIZE")] == ["9", "12", "1", "4"]
    assert (given["MASTER_ADDR"], given["MASTER_PORT"]) == ("127.0.0.1", "1234")


@pytest.mark.process
def test_a_rank_that_nobody_ends_ends_itself(ranks: Ranks) -> None:
    ranks.start(1, 1, task(2, limit_s=0.5) | {"port": 9})
    (said,) = wait(ranks, lambda said: said[0].status != RUNS)
    assert said.status == -signal.SIGALRM


def children_of(pid: int) -> list[int]:
    """The ranks that it has started, in their order."""
    pids: list[int] = []
    # A joined thread may stay listed for a moment, and so may a child that has ended.
    for path in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            pids += map(int, (path / "children").read_text().split())
    return sorted(pid for pid in pids if is_rank(pid))


def is_rank(pid: int) -> bool:
    try:
        return b"mmae.doctor.agent.all_reduce" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


@pytest.mark.process
@pytest.mark.parametrize("how", ["input", "killed"])
def test_ranks_end_with_their_agent(how: str) -> None:
    words = [sys.executable, "-m", "mmae.doctor.agent.agent", "nonce"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as agent:
        assert agent.stdin is not None
        assert agent.stdout is not None
        about = {"first": 1, "count": 2, "task": task(9) | {"port": 9}}
        agent.stdin.write(json.dumps({"number": 0, "ask": "start_ranks", **about}) + "\n")
        agent.stdin.flush()
        assert json.loads(agent.stdout.readline().partition(" ")[2]) == {"number": 0, "answer": 2}
        pids = children_of(agent.pid)
        assert len(pids) == 2
        if how == "killed":
            agent.kill()
        else:
            agent.stdin.close()
        agent.wait(60)
    end = time.monotonic() + 60
    while alive := [pid for pid in pids if started(pid)]:
        assert time.monotonic() < end, alive
        time.sleep(0.05)
