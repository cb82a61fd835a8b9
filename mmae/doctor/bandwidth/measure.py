"""An all-reduce between all hosts, with the ranks of a training: one for each slot or GPU, started by its launcher.

One rank for each host would be too few: the GPUs of a node share its adapters, and one GPU often uses only some.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

from mmae.doctor.bandwidth.demand import Demand
from mmae.doctor.bandwidth.diagnosis import Problem, diagnose, is_lost
from mmae.doctor.bandwidth.launched_ranks import LaunchedRanks
from mmae.doctor.bandwidth.rank import RankSaid, Task, bus_bandwidth
from mmae.doctor.hosts.session import Session
from mmae.doctor.hosts.survey import Answers, Asked, ask_all
from mmae.errors import InputError
from mmae.launch.visible_devices import Devices, choose
from mmae.terminal.plurals import counted

LIMIT_S: Final = 120.0
"""Limit for the whole measurement: DeepSpeed's launcher and the ranks load torch one after the other."""
MEASURE_S: Final = 5.0
MOST_BYTES: Final[Mapping[str, int]] = {"gloo": 64 << 20, "nccl": 50_000_000}
"""Largest number of bytes reduced at once; nccl's is the bucket size of the packaged DeepSpeed JSONs."""
_POLL_S: Final = 0.2
_AFTERMATH_S: Final = 2.0
"""After a rank is lost, others report within moments what they see of it."""


@dataclass
class Measured:
    """The result of the all-reduce.

    Attributes:
        interfaces: for each host, the interface over which its ranks met the others; "" if the libraries chose.
        size: bytes that were reduced at once; `seconds` has the time of each repetition.
        skipped: the reason why nothing was measured, though nothing is wrong; else empty.
        problems: (host, problem, remedy) for each reason why the measurement failed.
    """

    ranks: int = 0
    backend: str = ""
    interfaces: list[str] = field(default_factory=list)
    size: int = 0
    seconds: list[float] = field(default_factory=list)
    skipped: str = ""
    problems: list[Problem] = field(default_factory=list)

    @property
    def bandwidth(self) -> float:
        """Bus bandwidth in bytes per second, from the median time; 0 if nothing was measured."""
        return bus_bandwidth(self.size, median(self.seconds), self.ranks) if self.seconds else 0.0

    def facts(self) -> dict[str, object]:
        """The result for `--json`."""
        return {**asdict(self), "bus_bytes_per_second": self.bandwidth}


def ranks_of(answers: Answers) -> int:
    """Number of ranks that a training would start on a host.

    Raises:
        InputError: the variables that choose devices of this machine are invalid.
    """
    return answers.slots or _devices_here(answers).ranks


def _devices_here(answers: Answers) -> Devices:
    """The devices of a start by `single_node.sh`; without a hostfile the host is this machine."""
    return choose(os.environ, lambda: _gpus(answers))


def _gpus(answers: Answers) -> int:
    return max(0, answers.facts.gpus) if answers.facts else 0


def _on_gpus(answers: Answers) -> bool:
    """Whether the ranks of a host use GPUs."""
    return bool(answers.facts and answers.facts.gpus) and bool(answers.slots or not _devices_here(answers).on_cpu)


def why_not(hosts: Sequence[Answers]) -> list[Problem]:
    """Reasons why an all-reduce is not possible: (host, problem, remedy)."""
    found = [(each.name, "not measured: it does not answer", "see above") for each in hosts if each.silent is not None]
    if found:
        return found
    with_gpus = [each for each in hosts if _on_gpus(each)]
    for each in with_gpus:
        usable = each.torch_gpus or 0
        if usable < ranks_of(each):
            found.append(
                (
                    each.name,
                    f"not measured: {counted(ranks_of(each), 'rank')}, {counted(max(0, usable), 'usable GPU')}",
                    "see above",
                )
            )
    if with_gpus and len(with_gpus) < len(hosts):
        without = ", ".join(each.name for each in hosts if each not in with_gpus)
        found.append((hosts[0].name, f"not measured: {without} without a GPU", "take it out of the hostfile"))
    for each in hosts:
        lost = [other for other, reached in each.reached.items() if reached.problem]
        if each.route is not None and each.route.problem:
            lost.append(each.route.to)
        if lost:
            found.append((each.name, f"not measured: does not reach {', '.join(lost)}", "see above"))
    return found


@dataclass
class AllReduce:
    """The measurement, as `survey` takes it for `at_last`; afterwards `measured` holds the result.

    Args:
        demand_of: returns what a training with so many ranks needs.
        hostfile: names the hosts where they are several.
    """

    demand_of: Callable[[int], Demand] | None = None
    hostfile: Path | None = None
    limit_s: float = LIMIT_S
    measured: Measured = field(default_factory=Measured)
    need: Demand | None = None

    def __call__(self, pool: ThreadPoolExecutor, asked: Sequence[Asked]) -> None:
        answers, done = [each.answers for each in asked], self.measured
        try:
            done.problems = why_not(answers)
            done.ranks = sum(map(ranks_of, answers))
            done.backend = "nccl" if all(map(_on_gpus, answers)) else "gloo"
        except InputError as error:
            done.problems = [(answers[0].name, f"not measured: {error}", "a training would be refused, too")]
        if done.problems:
            return
        if done.ranks == 1:
            done.skipped = "a single rank has no partner"
            return
        most_bytes = MOST_BYTES[done.backend]
        if self.demand_of is not None:
            self.need = self.demand_of(done.ranks)
            most_bytes = min(most_bytes, self.need.bucket)
        # If this machine cannot end the ranks, they end by themselves.
        task = Task(done.backend, most_bytes, MEASURE_S, self.limit_s + 2 * _AFTERMATH_S)
        self._measure(pool, asked, task)

    def _measure(self, pool: ThreadPoolExecutor, asked: Sequence[Asked], task: Task) -> None:
        words, environment = self._launcher(asked)
        if not _all_speak(asked):
            self._conclude({}, asked, "")
            return
        # DeepSpeed numbers ranks in the order of the hosts.
        addresses = [each.host.address for each in asked for _ in range(ranks_of(each.answers))]
        with LaunchedRanks([*words, *task.words()], addresses, environment) as ranks:
            self._watch(pool, asked, ranks)
            why_ended = "" if ranks.all_done else ranks.why_ended()
            said, left = {}, iter(ranks.said())
            for each in asked:
                said[each.host.name] = [next(left) for _ in range(ranks_of(each.answers))]
        self._conclude(said, asked, why_ended)

    def _launcher(self, asked: Sequence[Asked]) -> tuple[list[str], dict[str, str]]:
        """Words for `LaunchedRanks`, and variables beside those of this process."""
        first = asked[0].answers
        if len(asked) == 1:
            gpus = max(0, first.torch_gpus or 0)
            return [str(gpus)], {"RANKS": str(first.slots)} if first.slots else {}
        ports: list[int] = []

        def choose_port(_: Asked, session: Session) -> None:
            ports.append(session.ask(int, "free_port"))

        asked[0].step(choose_port)
        # Where another training meets, its port is taken.
        return ["", str(self.hostfile), *(f"--master_port={port}" for port in ports)], {}

    def _watch(self, pool: ThreadPoolExecutor, asked: Sequence[Asked], ranks: LaunchedRanks) -> None:
        """Watch the ranks until all are done, one is lost, the launcher or a host is gone, or the time is over."""

        def look(_: Asked, session: Session) -> None:
            session.ask(float, "clock")

        until, troubled = time.monotonic() + self.limit_s, False
        while time.monotonic() <= until and not ranks.all_done and not ranks.why_ended():
            ask_all(pool, asked, lambda each: each.step(look))
            if not _all_speak(asked):
                return
            if not troubled and any(map(is_lost, ranks.said())):
                troubled, until = True, min(until, time.monotonic() + _AFTERMATH_S)
            time.sleep(_POLL_S)

    def _conclude(self, said: Mapping[str, Sequence[RankSaid]], asked: Sequence[Asked], why_ended: str) -> None:
        done = self.measured
        ranks = [rank for each in said.values() for rank in each]
        if gone := [each.answers for each in asked if each.answers.silent is not None]:
            done.problems = [(each.name, "not measured: it stopped answering", "see above") for each in gone]
        elif all(rank.phase == "done" for rank in ranks):
            done.size, done.seconds = ranks[0].bytes, ranks[0].seconds
            done.interfaces = [each[0].interface for each in said.values()]
        elif why_ended and all(rank.phase == "launch" for rank in ranks):
            where = asked[0].host.name if len(asked) == 1 else f"all {len(asked)}"
            done.problems = [(where, f"not measured: {why_ended}", "a training would not start, either")]
        else:
            done.problems = diagnose(said, self.limit_s, why_ended=why_ended, loopback=len(asked) == 1)


def _all_speak(asked: Sequence[Asked]) -> bool:
    return all(each.speaks for each in asked)
