"""Who may start: no processes, no store."""

from __future__ import annotations

import pytest

from mmae.distributed.preflight_rules import End, Entry, judge, judge_meeting, named

RUNS = {"mmae": "0.1.0 (aa)", "recipe": "r", "shards": "s"}


def entry(rank: int, host: str, **runs: str) -> Entry:
    return Entry(rank, host, {**RUNS, **runs})


def test_ranks_that_run_the_same_may_start() -> None:
    assert judge([entry(0, "a"), entry(1, "b")], 2, 1.0) is None


def test_a_rank_that_may_not_start_is_named_with_its_host() -> None:
    failed = Entry(1, "b", {}, 2, "/shards: no index.json")
    assert judge([entry(0, "a"), failed, entry(2, "b")], 3, 1.0) == End(2, "rank 1 on b: /shards: no index.json")


def test_what_all_meet_is_nobodys_in_particular() -> None:
    assert judge([Entry(rank, "a", {}, 2, "no recipe") for rank in range(3)], 3, 0.1) == End(2, "no recipe")


def test_a_rank_that_failed_counts_before_one_that_is_absent() -> None:
    assert judge([Entry(1, "b", {}, 1, "OSError: x")], 2, 3.0) == End(1, "rank 1 on b: OSError: x")


def test_who_does_not_come_is_lost() -> None:
    end = judge([entry(0, "a"), entry(1, "b"), entry(2, "b")], 5, 300.0)
    assert end is not None
    assert end.status == 4
    assert end.line.startswith("lost rank: ranks 3, 4 did not come within 300 s (MMAE_JOIN_SECONDS)")
    assert end.line.endswith("there are rank 0 on a, ranks 1, 2 on b")


@pytest.mark.parametrize(
    ("runs", "says"),
    [
        ({"mmae": "0.2.0 (bb)"}, "rank 2 on c: mmae 0.2.0 (bb), but 0.1.0 (aa) on a: give all hosts the same checkout"),
        ({"mmae": ""}, "rank 2 on c: mmae absent, but 0.1.0 (aa) on a"),
        ({"recipe": "q"}, "rank 2 on c: recipe q, but r on a: the recipe's or DeepSpeed's file is not the same"),
        ({"shards": "t"}, "rank 2 on c: shards t, but s on a: data.shards is another set there"),
    ],
)
def test_who_runs_something_else_than_most_is_named(runs: dict[str, str], says: str) -> None:
    end = judge([entry(0, "a"), entry(1, "b"), entry(2, "c", **runs)], 3, 1.0)
    assert end is not None
    assert end.status == 2
    assert end.line.startswith(says)


def test_ranks_are_named_by_host() -> None:
    assert named([entry(0, "a"), entry(1, "b"), entry(2, "b")]) == "rank 0 on a, ranks 1, 2 on b"


TWO_HOSTS = [
    Entry(0, "a", {}, interface="GLOO_SOCKET_IFNAME=eth0"),
    Entry(1, "b", {}, interface="GLOO_SOCKET_IFNAME=lo"),
    Entry(2, "b", {}, interface="GLOO_SOCKET_IFNAME=lo"),
]
ADVICE = (
    ": set GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME to the network interface that leads to the other hosts "
    "(now GLOO_SOCKET_IFNAME=eth0 on a; GLOO_SOCKET_IFNAME=lo on b)"
)


def test_ranks_that_have_all_joined_may_train() -> None:
    assert judge_meeting(TWO_HOSTS, TWO_HOSTS, 1.0) is None


def test_a_rank_that_cannot_connect_is_named_with_the_interfaces_of_all_hosts() -> None:
    failed = Entry(1, "b", {}, 4, "cannot connect to the other ranks (refused)")
    end = End(4, f"rank 1 on b: cannot connect to the other ranks (refused){ADVICE}")
    assert judge_meeting([TWO_HOSTS[0], failed], TWO_HOSTS, 1.0) == end


def test_a_ranks_own_error_counts_before_connections_that_break() -> None:
    failed = [Entry(0, "a", {}, 4, "cannot connect"), Entry(2, "b", {}, 1, "RuntimeError: CUDA error")]
    assert judge_meeting(failed, TWO_HOSTS, 1.0) == End(1, "rank 2 on b: RuntimeError: CUDA error")


def test_who_joins_too_late_is_lost() -> None:
    end = End(4, f"lost rank: ranks 1, 2 on b did not connect to the others within 300 s (MMAE_JOIN_SECONDS){ADVICE}")
    assert judge_meeting(TWO_HOSTS[:1], TWO_HOSTS, 300.4) == end


def test_one_host_needs_no_advice_and_many_are_counted() -> None:
    failed = [Entry(0, "a", {}, 4, "cannot connect")]
    assert judge_meeting(failed, [Entry(0, "a"), Entry(1, "a")], 1.0) == End(4, "rank 0 on a: cannot connect")
    end = judge_meeting(failed, [Entry(rank, f"n{rank}") for rank in range(9)], 1.0)
    assert end is not None
    assert end.line.endswith("(now no variable on n0, n1, n2, n3 and 5 more)")
