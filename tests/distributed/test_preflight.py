"""Ranks answer the preflight, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.commands import free_port
from tests.support.paths import ROOT

pytestmark = pytest.mark.process

PROGRAM = """
import sys
import time
import torch.distributed as dist
from mmae.distributed import preflight, store_round
from mmae.distributed.process_group import leave
from mmae.errors import InputError

def plan():
    if sys.argv[1] == "refused":
        raise InputError("/shards: no index.json")
    if sys.argv[1] == "fails":
        raise OSError("the disk is away")
    return sys.argv[1]

def join():
    if sys.argv[1] == "cannot":
        raise RuntimeError("Gloo connectFullMesh failed: Connection refused")
    if sys.argv[1] == "has no device":
        raise RuntimeError("CUDA error: invalid device ordinal")
    if sys.argv[3] != "all":
        time.sleep(1000)  # As a rank does that waits for one that does not come.
    # In the same store, as DeepSpeed does.
    dist.init_process_group("gloo", world_size=world)
    return dist.get_rank()

# Who is slow to say the same is waited for.
store_round._MORE_S = 200 if sys.argv[3] == "all" else 1
world = int(sys.argv[2])
with preflight.Preflight(world) as roll:
    print("starts with", roll.answer(plan, lambda plan: {"mmae": "1.0" if sys.argv[3] != "all" else plan}))
    roll.meet(join)
dist.barrier()
leave()
"""


def call(*plans: str, world: int | None = None, meet: str = "all", patience: int = 200) -> list[tuple[int, str, str]]:
    """Status, stdout and errors of each rank.

    Args:
        meet: who can join the process group; where that is not "all", the plan says how a rank fails.
    """
    port = str(free_port())
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, plan, str(world or len(plans)), meet],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
                 "MMAE_JOIN_SECONDS": str(2 if world else patience)},
        )
        for rank, plan in enumerate(plans)
    ]  # fmt: skip
    try:
        said = [rank.communicate(timeout=600) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    errors = ["\n".join(line for line in err.splitlines() if "mmae: error" in line) for _, err in said]
    return [(rank.returncode, out.strip(), err) for rank, (out, _), err in zip(ranks, said, errors, strict=True)]


def test_all_start_or_none_does() -> None:
    assert call("1.0", "1.0") == [(0, "starts with 1.0", "")] * 2
    assert call("1.0", "refused") == [
        (2, "", f"mmae: error: rank 1 on {os.uname().nodename}: /shards: no index.json"),
        (2, "", ""),
    ]


@pytest.mark.slow
def test_other_ways_to_end() -> None:
    here = os.uname().nodename
    assert call("refused", "refused") == [(2, "", "mmae: error: /shards: no index.json"), (2, "", "")]
    assert call("1.0", "fails")[0] == (1, "", f"mmae: error: rank 1 on {here}: OSError: the disk is away")
    assert call("1.0", "1.0", "2.0")[0][2].startswith(f"mmae: error: rank 2 on {here}: mmae 2.0, but 1.0 on {here}")
    (status, _, said), *_ = call("1.0", world=2)
    assert (status, "rank 1 did not come within 2 s" in said) == (4, True)


def test_who_is_alone_asks_nobody() -> None:
    assert call("1.0") == [(0, "starts with 1.0", "")]


def test_all_end_when_one_cannot_join() -> None:
    here = os.uname().nodename
    (first, _, line), (second, _, other) = call("waits", "cannot", meet="some")
    why = "cannot connect to the other ranks (Gloo connectFullMesh failed: Connection refused)"
    assert (first, second, line, other) == (4, 4, f"mmae: error: rank 1 on {here}: {why}", "")


@pytest.mark.slow
def test_other_ways_not_to_join() -> None:
    here = os.uname().nodename
    (first, _, line), (second, _, _) = call("has no device", "waits", meet="some")
    assert (first, second) == (1, 1)
    assert line == f"mmae: error: rank 0 on {here}: RuntimeError: CUDA error: invalid device ordinal"
    (first, _, line), (second, _, _) = call("waits", "waits", meet="none", patience=5)
    assert (first, second) == (4, 4)
    assert (
        line
        == f"mmae: error: lost rank: ranks 0, 1 on {here} did not connect to the others within 5 s (MMAE_JOIN_SECONDS)"
    )
