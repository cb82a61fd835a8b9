"""The all-reduce that measures the network: its arithmetic, and a rank with the variables of a launcher."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest

from mmae.distributed.network_interface import free_port
from mmae.doctor.bandwidth.rank import LEAST_BYTES, MARK, MODULE, REPEATS, Task, bus_bandwidth, measured, task_of
from mmae.processes import children_of, started
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


TASK = Task("gloo", 2 << 20, 0.2, 600.0)


def test_a_task_goes_through_the_words_of_a_launcher() -> None:
    words = TASK.words()
    assert words[:2] == ["--module", MODULE]
    assert task_of(["--local_rank=1", *words[2:]]) == TASK


def rank_words(task: Task) -> list[str]:
    return [sys.executable, "-u", "-W", "ignore", "-m", MODULE, "--local_rank=0", *task.words()[2:]]


def variables_of(world: int) -> dict[str, str]:
    """The variables that DeepSpeed's launch process sets for rank 0."""
    given = {"RANK": 0, "WORLD_SIZE": world, "LOCAL_RANK": 0, "LOCAL_SIZE": world, "MASTER_PORT": free_port()}
    return {"MASTER_ADDR": "localhost", **{name: str(value) for name, value in given.items()}}


@contextmanager
def rank_of(world: int, task: Task = TASK) -> Iterator[subprocess.Popen[str]]:
    """Rank 0, as DeepSpeed's launch process starts it."""
    environment = {**os.environ, **variables_of(world)}
    with subprocess.Popen(rank_words(task), env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def reports(process: subprocess.Popen[str], until: str) -> list[dict[str, object]]:
    """What a rank reports, up to the first report with this field or phase."""
    found: list[dict[str, object]] = []
    assert process.stdout is not None
    for line in process.stdout:
        _, mark, text = line.partition(MARK)
        if mark:
            found.append(json.loads(text))
            if until in found[-1] or found[-1].get("phase") == until:
                return found
    raise AssertionError(found)


def ended(pids: Sequence[int]) -> None:
    """Wait until processes have ended."""
    end = time.monotonic() + 60
    while alive := [pid for pid in pids if started(pid)]:
        assert time.monotonic() < end, alive
        time.sleep(0.05)


@pytest.mark.process
def test_a_rank_reports_its_way_and_ends() -> None:
    with rank_of(1) as process:
        said = reports(process, "done")
        assert [each["phase"] for each in said] == ["start", "meet", "first", "measure", "done"]
        assert (said[-1]["rank"], said[-1]["bytes"], said[-1]["interface"]) == (0, 2 << 20, "lo")
        assert process.wait(300) == 0


@pytest.mark.process
def test_a_rank_that_is_killed_says_so_and_stays_until_it_is_ended() -> None:
    with rank_of(2) as process:
        reports(process, "meet")
        (worker,) = children_of(process.pid)
        os.kill(worker, signal.SIGKILL)
        assert reports(process, "status")[-1] == {"rank": 0, "status": -9}
        assert process.poll() is None
        process.terminate()
        assert process.wait(60) == -signal.SIGTERM


@pytest.mark.process
def test_a_rank_that_fails_says_why_and_stays_until_it_is_ended() -> None:
    with rank_of(1, Task("absent", 1, 1.0, 600.0)) as process:
        assert "absent" in str(reports(process, "failed")[-1]["why"])
        workers = children_of(process.pid)
        assert len(workers) == 1
        process.terminate()
        process.wait(60)
        # None is left behind.
        ended(workers)


KILLED = """
import subprocess, sys
print(subprocess.Popen(sys.argv[1:]).pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.process
def test_a_rank_ends_with_the_process_that_started_it() -> None:
    words = [sys.executable, "-c", KILLED, *rank_words(TASK)]
    environment = {**os.environ, **variables_of(2)}
    with subprocess.Popen(
        words, env=environment, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        rank = int(parent.stdout.readline())
        reports(parent, "meet")
        pids = [rank, *children_of(rank)]
        assert len(pids) == 2
        parent.kill()
        ended(pids)


@pytest.mark.process
def test_a_rank_that_nobody_ends_ends_itself() -> None:
    with rank_of(2, Task("gloo", 1, 1.0, 4.0)) as process:
        reports(process, "start")
        workers = children_of(process.pid)
        assert process.wait(60) == -signal.SIGALRM
        ended(workers)


AS_THE_DOCTOR = """
from mmae.doctor.bandwidth.rank import meet
meet("gloo", 300.0)
"""
AS_A_TRAINING = """
from mmae.distributed.process_group import join
join()
"""
TOLD = """
import os, torch
import torch.distributed as dist
from mmae.distributed.process_group import leave
backend = dist.get_backend()
leave()
names = ("MASTER_ADDR", "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
print("told", *(os.environ.get(name) for name in names), torch.get_num_threads(), backend)
"""


def told(program: str) -> str:
    own = {name: value for name, value in os.environ.items() if not name.endswith(("_IFNAME", "_THREADS"))}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program + TOLD],
        env={**own, **variables_of(1)}, cwd=ROOT, stdout=subprocess.PIPE, text=True,
        check=True, timeout=600,
    )  # fmt: skip
    return done.stdout.splitlines()[-1]


@pytest.mark.process
def test_a_rank_prepares_itself_as_that_of_a_training() -> None:
    found = told(AS_THE_DOCTOR)
    assert found == told(AS_A_TRAINING)
    assert found.startswith("told 127.0.0.1 lo lo ")
