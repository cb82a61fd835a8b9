"""Who may start: no processes, no store."""

from __future__ import annotations

import pytest

from mmae.distributed.preflight_rules import End, Entry, judge, named

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
