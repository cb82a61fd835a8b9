"""Ranks of all hosts are started, watched and judged, with real agents and with made-up ones."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, cast

import pytest

from mmae.doctor.agent.connectivity import Reached, Route
from mmae.doctor.agent.ranks import RankSaid
from mmae.doctor.bandwidth.bandwidth_checks import bandwidth, enough
from mmae.doctor.bandwidth.demand import Demand, demand_of
from mmae.doctor.bandwidth.diagnosis import diagnose
from mmae.doctor.bandwidth.measure import AllReduce, Measured, ranks_of, why_not
from mmae.doctor.hosts.session import Refused, Unreachable
from mmae.doctor.hosts.survey import Answers, Asked
from mmae.launch.hostfile import Host
from tests.support.surveyed_hosts import facts, host

DONE = RankSaid(0, "done", bytes=1 << 20, seconds=[0.02, 0.01, 0.5])
ROUTE = Route("b", "10.0.0.1", "eth0", "")


def named(name: str, gpus: int = 8, slots: int | None = 8, **more: Any) -> Answers:
    return host(name, facts(gpus=gpus), slots=slots, torch_gpus=gpus or None, route=ROUTE, **more)


class Scripted:
    """An agent with given answers. It repeats the last one."""

    def __init__(self, *ranks: list[RankSaid] | Exception) -> None:
        self.ranks, self.asked = list(ranks), list[dict[str, Any]]()

    def ask(self, _kind: object, what: str, **about: Any) -> Any:
        self.asked.append({"ask": what, **about})
        if what != "ranks":
            return 1234
        said = self.ranks.pop(0) if len(self.ranks) > 1 else self.ranks[0]
        if isinstance(said, Exception):
            raise said
        return said


def reduced(*hosts: tuple[Answers, Scripted], limit_s: float = 0.3, need: Demand | None = None) -> AllReduce:
    network = AllReduce(None if need is None else lambda _: need, limit_s)
    asked = [Asked(Host(each.name, each.slots), each, cast(Any, agent)) for each, agent in hosts]
    with ThreadPoolExecutor() as pool:
        network(pool, asked)
    return network


def test_each_host_starts_its_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    first, second = Scripted([DONE]), Scripted([RankSaid(8)], [replace(DONE, rank=8)])
    network = reduced((named("a"), first), (named("b", gpus=4, slots=4), second))
    measured = network.measured
    assert (measured.ranks, measured.backend, measured.interfaces, measured.problems) == (12, "nccl", ["eth0"] * 2, [])
    assert (measured.size, measured.seconds) == (1 << 20, DONE.seconds)
    # The median's, not the hiccup's.
    assert measured.bandwidth == pytest.approx((1 << 20) / 0.02 * 2 * 11 / 12)
    starts = [next(each for each in agent.asked if each["ask"] == "start_ranks") for agent in (first, second)]
    assert [(each["first"], each["count"], each["task"]["port"]) for each in starts] == [(0, 8, 1234), (8, 4, 1234)]
    assert starts[0]["task"] == starts[1]["task"]
    assert starts[0]["task"]["meeting_place"] == "a"
    assert first.asked[0] == {"ask": "meet", "address": "10.0.0.1"}


def test_one_that_never_comes_is_named_when_the_time_is_over() -> None:
    network = reduced((named("a"), Scripted([RankSaid(0, "meet")])), (named("b"), Scripted([RankSaid(8, "start")])))
    (found,) = network.measured.problems
    assert found[:2] == ("b", "rank 8 hung loading torch: 0.3 s are over")
    assert "file system" in found[2]


def test_a_refusal_leaves_the_agents_earlier_answers() -> None:
    answers = named("a")
    network = reduced((answers, Scripted(Refused("no memory"))), (named("b"), Scripted([RankSaid(8)])))
    assert network.measured.problems == [("a", "not measured: no memory", "see what it says")]
    assert answers.silent is None


def test_a_host_that_is_gone_meanwhile() -> None:
    gone = Unreachable("the connection ended", "try")
    network = reduced((named("a"), Scripted([RankSaid(0)])), (named("b"), Scripted(gone)))
    assert network.measured.problems == [("b", "not measured: it stopped answering", "see above")]


@pytest.mark.parametrize(
    ("said", "host", "words"),
    [
        ({"a": [RankSaid(0, "failed", "closed by peer")], "b": [RankSaid(1, "meet", "Killed", status=-9)]},
         "b", "rank 1 was killed by signal 9 meeting the other ranks: Killed"),
        ({"a": [RankSaid(0, "meet")], "b": [RankSaid(1, "start", "No module named torch", status=1)]},
         "b", "rank 1 ended with status 1 loading torch: No module named torch"),
        ({"a": [RankSaid(0, "failed", "refused")], "b": [RankSaid(1, "meet")]}, "a", "rank 0 failed: refused"),
        ({"a": [RankSaid(0, "measure")], "b": [RankSaid(1, "first"), RankSaid(2, "first")]},
         "b", "rank 1 hung in its first all-reduce: 5 s are over"),
        ({"a": [DONE], "b": [RankSaid(1, "measure")]}, "b", "rank 1 hung in an all-reduce: 5 s are over"),
    ],
)  # fmt: skip
def test_the_host_that_delays_the_others_is_named(said: dict[str, list[RankSaid]], host: str, words: str) -> None:
    assert [each[:2] for each in diagnose(said, 5.0)] == [(host, words)]


@pytest.mark.parametrize(
    ("hosts", "words"),
    [
        ([named("a"), named("b")], None),
        ([named("a", gpus=0), named("b", gpus=0)], None),
        ([named("a", slots=9)], "9 ranks, 8 usable GPUs"),
        ([host("a", slots=8, torch_gpus=-1)], "8 ranks, 0 usable GPUs"),
        ([named("a"), named("b", gpus=0)], "b without a GPU"),
        ([named("a"), Answers("b", silent=("no", "yes"))], "does not answer"),
        ([named("a", reached={"b": Reached("", 0.0, "refused")}), named("b")], "does not reach b"),
    ],
)
def test_impossible_measurements_are_not_tried(hosts: list[Answers], words: str | None) -> None:
    found = why_not(hosts)
    assert (found == []) if words is None else words in found[0][1]


@pytest.mark.parametrize(("gpus", "slots", "ranks"), [(8, None, 8), (8, 4, 4), (0, None, 2), (0, 3, 3), (1, None, 1)])
def test_ranks_of_a_host(gpus: int, slots: int | None, ranks: int) -> None:
    assert ranks_of(named("a", gpus, slots)) == ranks


def test_a_single_rank_is_not_a_fault() -> None:
    network = reduced((named("a", gpus=1, slots=1), Scripted([DONE])))
    (found,) = bandwidth(network.measured, "a")
    assert (found.level, found.found) == ("note", "not measured: a single rank has no partner")


def test_problems_fail() -> None:
    (found,) = bandwidth(Measured(2, "gloo", problems=[("b", "x", "y")]), "all 2")
    assert (found.host, found.level, found.remedy) == ("b", "FAIL", "y")


@pytest.mark.parametrize(("gbit", "level", "share"), [(400, "ok", "6%"), (10, "note", "70%")])
def test_a_network_beside_what_vit_h_needs(gbit: float, level: str, share: str) -> None:
    need = demand_of("vit_h", "zero1", ["train.micro_batch=64", "train.activation_checkpointing=full"], 16)
    # 3 x 15/16 of the weights in bf16.
    assert need.line.network == pytest.approx(3 * 15 / 16 * 2 * 636e6, rel=0.01)
    size, rate = 1 << 28, gbit / 8 * 1e9
    measured = Measured(16, "nccl", ["ib0"], size, [size * 2 * 15 / 16 / rate] * 3)
    (found,) = enough(measured, need, "all 2")
    assert (found.level, bool(found.remedy)) == (level, level != "ok")
    seconds, computing = need.line.network / rate, need.line.step_seconds or 0
    assert f", {seconds / (seconds + computing):.0%} of a step if nothing overlaps" in found.found
    assert share in found.found


def test_on_cpus_only_the_seconds_are_known() -> None:
    measured = Measured(2, "gloo", ["lo"], 1 << 20, [0.01])
    (found,) = enough(measured, demand_of("vit_b", "zero1", [], 2), "all 2")
    assert found.level == "ok"
    assert "on CPUs is not known" in found.found
