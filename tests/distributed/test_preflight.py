"""Ranks answer the preflight and meet, in processes of their own."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch.distributed as dist

from mmae.distributed import preflight, store_round
from mmae.distributed.process_group import leave
from mmae.errors import InputError
from tests.support.forked_ranks import run_ranks

pytestmark = pytest.mark.process

HERE = os.uname().nodename


def start(plan: str, world: int, joins: str, more_s: float) -> None:
    """A rank of so many; `plan` and `joins` say what it has, or how it fails."""

    def made() -> str:
        if plan == "refused":
            raise InputError("/shards: no index.json")
        if plan == "fails":
            raise OSError("the disk is away")
        return plan

    def join() -> int:
        if joins == "cannot":
            raise RuntimeError("Gloo connectFullMesh failed: Connection refused")
        if joins == "has no device":
            raise RuntimeError("CUDA error: invalid device ordinal")
        if joins == "waits":
            # As a rank does for one that does not come.
            time.sleep(1000)
        # In the same store, as DeepSpeed does.
        dist.init_process_group("gloo", world_size=world)
        return dist.get_rank()

    store_round._MORE_S = more_s  # type: ignore[misc]
    with preflight.Preflight(world) as roll:
        print("starts with", roll.answer(made, lambda plan: {"mmae": plan}), flush=True)
        roll.meet(join)
    dist.barrier()
    leave()


def call(
    folder: Path, *plans: str, world: int | None = None, joins: str | None = None, patience: int = 200
) -> list[tuple[int, str, str]]:
    """Status, stdout and errors of each rank.

    Args:
        joins: a word a rank, in one text: how it joins the group. None: all do.
    """
    how = ["well"] * len(plans) if joins is None else joins.split(", ")
    # Who is slow to say the same is waited for.
    more_s = 200 if joins is None else 1
    words = [(plan, world or len(plans), each, more_s) for plan, each in zip(plans, how, strict=True)]
    ended = run_ranks(start, words, folder, MMAE_JOIN_SECONDS=str(2 if world else patience))
    errors = ["\n".join(line for line in done.err.splitlines() if "mmae: error" in line) for done in ended]
    return [(done.status, done.out.strip(), said) for done, said in zip(ended, errors, strict=True)]


def test_all_start_or_none_does(tmp_path: Path) -> None:
    assert call(tmp_path, "1.0", "1.0") == [(0, "starts with 1.0", "")] * 2
    assert call(tmp_path, "1.0", "refused") == [
        (2, "", f"mmae: error: rank 1 on {HERE}: /shards: no index.json"),
        (2, "", ""),
    ]


@pytest.mark.parametrize(
    ("plans", "says"),
    [
        (("refused", "refused"), "/shards: no index.json"),
        (("1.0", "fails"), f"rank 1 on {HERE}: OSError: the disk is away"),
        (("1.0", "1.0", "2.0"), f"rank 2 on {HERE}: mmae 2.0, but 1.0 on {HERE}"),
    ],
)
def test_other_ways_to_end(plans: tuple[str, ...], says: str, tmp_path: Path) -> None:
    first, *others = call(tmp_path, *plans)
    assert first[2].startswith(f"mmae: error: {says}")
    assert [said for *_, said in others] == [""] * len(others)
    assert {status for status, *_ in (first, *others)} == {1 if "fails" in plans else 2}


def test_who_does_not_come_is_lost(tmp_path: Path) -> None:
    ((status, _, said),) = call(tmp_path, "1.0", world=2)
    assert (status, "rank 1 did not come within 2 s" in said) == (4, True)


def test_who_is_alone_asks_nobody(tmp_path: Path) -> None:
    assert call(tmp_path, "1.0") == [(0, "starts with 1.0", "")]


@pytest.mark.parametrize(
    ("joins", "status", "says"),
    [
        (
            "waits, cannot",
            4,
            "rank 1 on {}: cannot connect to the other ranks (Gloo connectFullMesh failed: Connection",
        ),
        ("has no device, waits", 1, "rank 0 on {}: RuntimeError: CUDA error: invalid device ordinal"),
        (
            "waits, waits",
            4,
            "lost rank: ranks 0, 1 on {} did not connect to the others within 3 s (MMAE_JOIN_SECONDS)",
        ),
    ],
)
def test_all_end_when_one_cannot_join(joins: str, status: int, says: str, tmp_path: Path) -> None:
    first, second = call(tmp_path, "1.0", "1.0", joins=joins, patience=3 if joins == "waits, waits" else 200)
    assert (first[0], second[0]) == (status, status)
    assert first[2].startswith(f"mmae: error: {says.format(HERE)}")
    assert second[2] == ""
