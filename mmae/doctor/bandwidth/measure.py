"""An all-reduce between all hosts, with the ranks of a training: one for each slot.

One rank for each host would be too few: the GPUs of a node share its adapters, and one GPU often uses only some.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Final

from mmae.distributed.devices import VISIBLE
from mmae.doctor.agent.all_reduce import bus_bandwidth
from mmae.doctor.agent.ranks import RankSaid
from mmae.doctor.bandwidth.demand import Demand
from mmae.doctor.bandwidth.diagnosis import Problem, diagnose, is_lost
from mmae.doctor.hosts.session import Refused, Session
from mmae.doctor.hosts.survey import Answers, Asked, ask_all
from mmae.launch.visible_devices import CPU_RANKS
from mmae.terminal.plurals import counted

LIMIT_S: Final = 90.0
"""Limit for the whole measurement: torch may be read from a slow file system."""
MEASURE_S: Final = 5.0
MOST_BYTES: Final[Mapping[str, int]] = {"gloo": 64 << 20, "nccl": 400_000_000}
"""Largest number of bytes reduced at once; nccl's is the bucket size of the packaged DeepSpeed JSONs."""
_POLL_S: Final = 0.2
_AFTERMATH_S: Final = 2.0
"""After a rank is lost, others report within moments what they see of it."""


@dataclass
class Measured:
    """The result of the all-reduce.

    Attributes:
        interfaces: for each host, the interface that leads to the others.
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
    """Number of ranks that a training would start on a host."""
    facts = answers.facts
    gpus = facts.gpus if facts else 0
    if facts and gpus > 0 and VISIBLE in facts.environment:
        gpus = answers.torch_gpus or 0
    return answers.slots or max(gpus, 0) or CPU_RANKS


def _interface(answers: Answers) -> str:
    """The interface that leads from a host to the others, unless the environment names one."""
    said = answers.facts.environment.get("GLOO_SOCKET_IFNAME") if answers.facts else None
    return said or (answers.route.interface if answers.route else "lo")


def why_not(hosts: Sequence[Answers]) -> list[Problem]:
    """Reasons why an all-reduce is not possible: (host, problem, remedy)."""
    found = [(each.name, "not measured: it does not answer", "see above") for each in hosts if each.silent is not None]
    if found:
        return found
    with_gpus = [each for each in hosts if each.facts and each.facts.gpus]
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
    """

    demand_of: Callable[[int], Demand] | None = None
    limit_s: float = LIMIT_S
    measured: Measured = field(default_factory=Measured)
    need: Demand | None = None

    def __call__(self, pool: ThreadPoolExecutor, asked: Sequence[Asked]) -> None:
        answers = [each.answers for each in asked]
        gpus = all(each.facts and each.facts.gpus for each in answers)
        done = self.measured = Measured(sum(map(ranks_of, answers)), "nccl" if gpus else "gloo")
        done.problems = why_not(answers)
        if done.problems:
            return
        if done.ranks == 1:
            done.skipped = "a single rank has no partner"
            return
        most_bytes = MOST_BYTES[done.backend]
        if self.demand_of is not None:
            self.need = self.demand_of(done.ranks)
            most_bytes = min(most_bytes, self.need.bucket)
        done.interfaces = [_interface(each) for each in answers]
        self._start(pool, asked, most_bytes)
        said = {} if self._broken(asked) else self._watch(pool, asked)
        self._conclude(said, asked)

    def _start(self, pool: ThreadPoolExecutor, asked: Sequence[Asked], most_bytes: int) -> None:
        route, done = asked[0].answers.route, self.measured
        task: dict[str, object] = {
            "token": secrets.token_hex(16), "world": done.ranks, "backend": done.backend,
            "address": route.address if route else "127.0.0.1",
            "meeting_place": os.environ.get("MASTER_ADDR") or asked[0].host.address,
            "most_bytes": most_bytes, "seconds": MEASURE_S,
            # If this machine cannot end the ranks, they end by themselves.
            "limit_s": self.limit_s + 2 * _AFTERMATH_S,
        }  # fmt: skip
        counts = [ranks_of(each.answers) for each in asked]

        def start(each: Asked, session: Session) -> None:
            number = asked.index(each)
            session.ask(int, "start_ranks", first=sum(counts[:number]), count=counts[number], task=task)

        def meet(_: Asked, session: Session) -> None:
            task["port"] = session.ask(int, "meet", address=task["address"])

        self._step(asked[0], meet)
        if "port" in task:
            ask_all(pool, asked, lambda each: self._step(each, start))

    def _watch(self, pool: ThreadPoolExecutor, asked: Sequence[Asked]) -> dict[str, list[RankSaid]]:
        """Watch the ranks until all are done, one is lost, or the time is over."""
        said: dict[str, list[RankSaid]] = {}

        def look(each: Asked, session: Session) -> None:
            said[each.host.name] = session.ask(list[RankSaid], "ranks")

        until, troubled = time.monotonic() + self.limit_s, False
        while True:
            ask_all(pool, asked, lambda each: self._step(each, look))
            ranks = [rank for each in said.values() for rank in each]
            if all(rank.phase == "done" for rank in ranks) or self._broken(asked):
                return said
            if not troubled and any(map(is_lost, ranks)):
                troubled, until = True, min(until, time.monotonic() + _AFTERMATH_S)
            if time.monotonic() > until:
                return said
            time.sleep(_POLL_S)

    def _step(self, each: Asked, ask: Callable[[Asked, Session], None]) -> None:
        """Ask, and keep the host's earlier answers if the agent refuses."""

        def careful(each: Asked, session: Session) -> None:
            try:
                ask(each, session)
            except Refused as error:
                self.measured.problems.append((each.host.name, f"not measured: {error}", "see what it says"))

        each.step(careful)

    def _broken(self, asked: Sequence[Asked]) -> bool:
        return bool(self.measured.problems) or not all(each.speaks for each in asked)

    def _conclude(self, said: Mapping[str, Sequence[RankSaid]], asked: Sequence[Asked]) -> None:
        done = self.measured
        ranks = [rank for each in said.values() for rank in each]
        if gone := [each.answers for each in asked if each.answers.silent is not None]:
            done.problems += [(each.name, "not measured: it stopped answering", "see above") for each in gone]
        elif all(rank.phase == "done" for rank in ranks):
            done.size, done.seconds = ranks[0].bytes, ranks[0].seconds
        elif not done.problems:
            done.problems = diagnose(said, self.limit_s, loopback=all(name == "lo" for name in done.interfaces))
