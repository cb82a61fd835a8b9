"""All hosts' ranks started, watched and judged: agents and ranks are made up."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from mmae.doctor.agent.connectivity import Reached, Route
from mmae.doctor.bandwidth import measure
from mmae.doctor.bandwidth.bandwidth_checks import bandwidth, enough
from mmae.doctor.bandwidth.demand import demand_of
from mmae.doctor.bandwidth.diagnosis import diagnose
from mmae.doctor.bandwidth.measure import AllReduce, Measured, ranks_of, why_not
from mmae.doctor.bandwidth.rank import MODULE, RankSaid
from mmae.doctor.hosts.session import Unreachable
from mmae.doctor.hosts.survey import Answers, Asked
from mmae.launch import multi_node
from mmae.launch.hostfile import Host
from tests.support.surveyed_hosts import facts, host

SECONDS = [0.02, 0.01, 0.5]
DONE = RankSaid(0, "done", bytes=1 << 20, seconds=SECONDS)
ROUTE = Route("b", "10.0.0.1", "eth0", "")


def named(name: str, gpus: int = 8, slots: int | None = 8, **more: Any) -> Answers:
    return host(name, facts(gpus=gpus), slots=slots, torch_gpus=gpus or None, route=ROUTE, **more)


class Scripted:
    """The agent of a host: it answers each question, or none."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.fault = fault

    def ask(self, *_: object, **__: object) -> int:
        if self.fault:
            raise self.fault
        return 1234


class Launched:
    """Ranks that report one thing after another: the last one again and again, once there is no other."""

    def __init__(self, *reports: list[RankSaid], why_ended: str = "") -> None:
        self.reports, self.ended = list(reports), why_ended
        self.words: list[str] = []
        self.addresses: list[str] = []
        self.environment: dict[str, str] = {}

    def __call__(self, words: list[str], addresses: list[str], environment: dict[str, str]) -> Launched:
        self.words, self.environment = words, environment
        self.addresses = addresses
        assert all(len(said) == len(addresses) for said in self.reports)
        return self

    def __enter__(self) -> Launched:
        return self

    def __exit__(self, *_: object) -> None:
        self.words = [*self.words, "ended"]

    def said(self) -> list[RankSaid]:
        return self.reports.pop(0) if len(self.reports) > 1 else self.reports[0]

    @property
    def all_done(self) -> bool:
        return all(rank.phase == "done" for rank in self.reports[0])

    def why_ended(self) -> str:
        return self.ended


def reduced(
    monkeypatch: pytest.MonkeyPatch, launched: Launched, *hosts: Answers, gone: Exception | None = None,
    hostfile: Path | None = None,
) -> Measured:  # fmt: skip
    """What is measured on these hosts, of which the last one fails by `gone`."""
    monkeypatch.setattr(measure, "LaunchedRanks", launched)
    for name in ("CUDA_VISIBLE_DEVICES", "GPUS", "RANKS"):
        monkeypatch.delenv(name, raising=False)
    network = AllReduce(None, hostfile, limit_s=0.3)
    asked = [Asked(Host(each.name, each.slots), each, cast(Any, Scripted(None))) for each in hosts]
    asked[-1].session = cast(Any, Scripted(gone))
    with ThreadPoolExecutor() as pool:
        network(pool, asked)
    return network.measured


def ranks(count: int, **said: Any) -> list[RankSaid]:
    return [replace(RankSaid(rank), **said) for rank in range(count)]


def test_the_ranks_of_a_hostfile_are_started_as_those_of_a_training(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "hosts").write_text("a slots=8\nb slots=4\n")
    done = ranks(12, phase="done", bytes=1 << 20, seconds=SECONDS, interface="eth0")
    launched = Launched(ranks(12, phase="meet"), done)
    found = reduced(monkeypatch, launched, named("a"), named("b", gpus=4, slots=4), hostfile=tmp_path / "hosts")
    assert (found.ranks, found.backend, found.interfaces, found.problems) == (12, "nccl", ["eth0"] * 2, [])
    assert (found.size, found.seconds) == (1 << 20, SECONDS)
    # The median's, not the hiccup's.
    assert found.bandwidth == pytest.approx((1 << 20) / 0.02 * 2 * 11 / 12)
    assert launched.words[-1] == "ended"
    assert launched.addresses == [*["a"] * 8, *["b"] * 4]
    # At a port that the first host has found free.
    gpus, *words = launched.words[:-1]
    assert (gpus, launched.environment) == ("", {})
    start = multi_node.plan_start(words, {"MASTER_ADDR": "192.0.2.1"}, Path("/folder"), Path("/python"))
    command = " ".join(start.command)
    assert command.startswith(f"deepspeed --hostfile {tmp_path}/hosts --master_addr 192.0.2.1 --master_port 1234 ")
    assert f" --module {MODULE} --backend=nccl --most_bytes=50000000 " in command
    # They have no run's folder to be stopped by: they are ended.
    assert start.hosts is not None
    assert start.hosts.run is None


def test_the_ranks_of_this_machine_are_those_of_single_node(monkeypatch: pytest.MonkeyPatch) -> None:
    launched = Launched(ranks(8, phase="done", bytes=1, seconds=[1.0]))
    reduced(monkeypatch, launched, named("a", slots=None))
    assert (launched.words[0], launched.environment) == ("8", {})
    # Of a hostfile with one line the slots count.
    launched = Launched(ranks(4, phase="done", bytes=1, seconds=[1.0]))
    reduced(monkeypatch, launched, named("a", slots=4))
    assert (launched.words[:2], launched.environment) == (["8", "--module"], {"RANKS": "4"})


def test_one_that_never_comes_is_named_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    said = ranks(16, phase="meet")
    for phase, words, remedy in (
        ("start", "rank 8 hung loading torch: 0.3 s are over", "import torch"),
        ("launch", "rank 8 hung before it started: 0.3 s are over", "import deepspeed"),
    ):
        said[8] = RankSaid(8, phase)
        (found,) = reduced(monkeypatch, Launched(said), named("a"), named("b")).problems
        assert found[:2] == ("b", words)
        assert remedy in found[2]


def test_a_launcher_that_starts_nothing_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    launched = Launched(ranks(16), why_ended="the launcher ended with status 2: pdsh is missing here")
    (found,) = reduced(monkeypatch, launched, named("a"), named("b")).problems
    assert found[:2] == ("all 2", "not measured: the launcher ended with status 2: pdsh is missing here")


def test_a_launcher_that_ends_before_its_ranks_is_quoted_where_they_are_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    said = [*ranks(8, phase="meet"), *(RankSaid(rank) for rank in range(8, 16))]
    launched = Launched(said, why_ended="the launcher ended with status 1: ImportError: x")
    (found,) = reduced(monkeypatch, launched, named("a"), named("b")).problems
    assert found[:2] == ("b", "rank 8 was lost before it started: the launcher ended with status 1: ImportError: x")


def test_a_host_that_is_gone_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = Unreachable("the connection ended", "try")
    found = reduced(monkeypatch, Launched(ranks(16)), named("a"), named("b"), gone=gone)
    assert found.problems == [("b", "not measured: it stopped answering", "see above")]


def test_devices_that_a_training_would_refuse_are_a_problem_and_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANKS", "9")
    network = AllReduce()
    with ThreadPoolExecutor() as pool:
        network(pool, [Asked(Host("a"), named("a", slots=None), cast(Any, Scripted()))])
    (found,) = network.measured.problems
    assert found[1] == "not measured: RANKS=9: this machine has 8 GPUs, and ranks cannot share one"


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
def test_who_keeps_the_others_up(said: dict[str, list[RankSaid]], host: str, words: str) -> None:
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
def test_what_is_not_tried(hosts: list[Answers], words: str | None) -> None:
    found = why_not(hosts)
    assert (found == []) if words is None else words in found[0][1]


@pytest.mark.parametrize(
    ("gpus", "slots", "environment", "count"),
    [
        (8, None, {}, 8),
        (8, 4, {"GPUS": "0"}, 4),
        (0, None, {}, 2),
        (0, 3, {}, 3),
        (1, None, {}, 1),
        (8, None, {"CUDA_VISIBLE_DEVICES": "4,5"}, 2),
        (8, None, {"GPUS": "1,2,3"}, 3),
        (8, None, {"RANKS": "5"}, 5),
    ],
)
def test_ranks_of_a_host(
    gpus: int, slots: int | None, environment: dict[str, str], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CUDA_VISIBLE_DEVICES", "GPUS", "RANKS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert ranks_of(named("a", gpus, slots)) == count


def test_where_all_gpus_are_hidden_cpus_reduce(monkeypatch: pytest.MonkeyPatch) -> None:
    launched = Launched(ranks(2, phase="done", bytes=1, seconds=[1.0]))
    monkeypatch.setattr(measure, "LaunchedRanks", launched)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    network = AllReduce()
    with ThreadPoolExecutor() as pool:
        network(pool, [Asked(Host("a"), named("a", slots=None), cast(Any, Scripted()))])
    assert (network.measured.problems, network.measured.backend, launched.words[2]) == ([], "gloo", MODULE)


def test_one_rank_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = bandwidth(reduced(monkeypatch, Launched(), named("a", gpus=1, slots=1)), "a")
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
