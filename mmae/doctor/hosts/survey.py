"""Ask all hosts at the same time: each about itself, then about its connections to the others."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mmae.doctor.agent.connectivity import Reached, Route
from mmae.doctor.agent.facts import Facts
from mmae.doctor.agent.storage import Folder, OpCache, Shards
from mmae.doctor.hosts.session import HELLO_S, Refused, Session, Unreachable
from mmae.launch.hostfile import Host
from mmae.launch.rank_environment import of_remote_ranks

_AT_ONCE: Final = 64
_TORCH_S: Final = 70.0
_PINGS: Final = 3
_GRACE_S: Final = 2.0
_SHORT_GRACE_S: Final = 0.1
"""For a host that does not answer: it will not end by itself either."""


@dataclass
class Answers:
    """The answers of one host; None for a question that was not asked or answered.

    Attributes:
        slots: its slots in the hostfile.
        silent: why it does not answer, and the remedy; None if it answers.
        torch_gpus: number of GPUs that torch can use; -1 if torch failed.
        ahead: seconds by which its clock is ahead of this machine's.
        unsure: uncertainty of `ahead` in seconds, half the round trip.
        token: "wrote", "saw" or "missed" the token file, or the reason why it could not write it.
        route: its route to the first host; the first host's is to the second.
        reached: results of connection attempts, by the name of the other host.
    """

    name: str
    slots: int | None = None
    silent: tuple[str, str] | None = None
    facts: Facts | None = None
    torch_gpus: int | None = None
    ahead: float = 0.0
    unsure: float = 0.0
    shards: list[Shards] = field(default_factory=list)
    run: Folder | None = None
    op_cache: OpCache | None = None
    token: str | None = None
    route: Route | None = None
    reached: dict[str, Reached] = field(default_factory=dict)


@dataclass
class Asked:
    """A host while it is asked."""

    host: Host
    answers: Answers
    session: Session | None = None

    def step(self, ask: Callable[[Asked, Session], None]) -> None:
        """Ask the next question, if the host has answered so far."""
        if self.session is None or self.answers.silent is not None:
            return
        try:
            ask(self, self.session)
        except Unreachable as error:
            self.answers.silent = error.why, error.remedy
        except Refused as error:
            self.answers.silent = f"it could not look: {error}", "see what it says"

    @property
    def speaks(self) -> bool:
        return self.answers.silent is None


def survey(
    hosts: Sequence[Host],
    shards: Sequence[str],
    run: str | None,
    *,
    local: bool,
    hello_s: float = HELLO_S,
    at_last: Callable[[ThreadPoolExecutor, Sequence[Asked]], None] | None = None,
) -> list[Answers]:
    """The answers of all hosts, in the given order.

    Args:
        local: whether the only host is this machine, which needs no ssh.
        shards, run: absolute paths of folders.
        at_last: further questions, before the agents end.
    """
    environment = {} if local else of_remote_ranks(os.environ, Path.home(), Path.cwd())
    asked = [Asked(host, Answers(host.name, host.slots)) for host in hosts]

    def greet(each: Asked) -> None:
        try:
            each.session = Session(None if local else each.host.name, environment)
        except Unreachable as error:
            each.answers.silent = error.why, error.remedy
        each.step(lambda _, session: _clock(each.answers, session, hello_s))

    with ThreadPoolExecutor(min(_AT_ONCE, len(asked))) as pool:
        try:
            ask_all(pool, asked, greet)
            ask_all(pool, asked, lambda each: each.step(lambda _, session: _itself(each.answers, session, shards, run)))
            if len(asked) > 1:
                ask_all(pool, asked, lambda each: each.step(lambda *_: _route(each, asked)))
                _connections(pool, asked)
            if run is not None:
                _token(pool, asked)
            if at_last is not None:
                at_last(pool, asked)
        finally:
            ask_all(pool, asked, _close)
    return [each.answers for each in asked]


def _close(each: Asked) -> None:
    if each.session is not None:
        each.session.close(_GRACE_S if each.speaks else _SHORT_GRACE_S)


def ask_all(pool: ThreadPoolExecutor, asked: Iterable[Asked], call: Callable[[Asked], None]) -> None:
    for done in [pool.submit(call, each) for each in asked]:
        done.result()


def _clock(answers: Answers, session: Session, hello_s: float) -> None:
    """The first answer includes the time to connect; the quickest of a few more is the most exact."""
    session.ask(float, "clock", hello_s)
    best = float("inf")
    for _ in range(_PINGS):
        before = time.time()
        there = session.ask(float, "clock", hello_s)
        after = time.time()
        if after - before < best:
            best = after - before
            answers.ahead, answers.unsure = there - (before + after) / 2, best / 2


def _itself(answers: Answers, session: Session, shards: Sequence[str], run: str | None) -> None:
    answers.facts = session.ask(Facts, "facts")
    if answers.facts.gpus:
        answers.torch_gpus = session.ask(int, "torch_gpus", _TORCH_S)
    answers.op_cache = session.ask(OpCache, "op_cache")
    answers.shards = [session.ask(Shards, "shards", folder=folder) for folder in shards]
    if run is not None:
        answers.run = session.ask(Folder, "run", folder=run)


def _route(each: Asked, asked: Sequence[Asked]) -> None:
    assert each.session is not None
    to = asked[1] if each is asked[0] else asked[0]
    each.answers.route = each.session.ask(Route, "route", to=to.host.address)


def _connections(pool: ThreadPoolExecutor, asked: Sequence[Asked]) -> None:
    """Each host connects to the first host and to its neighbours, as ranks that join a run and a ring do."""
    token, ports = secrets.token_hex(16), dict[str, int]()

    def listen(each: Asked, session: Session) -> None:
        ports[each.host.name] = session.ask(int, "listen", token=token)

    ask_all(pool, asked, lambda each: each.step(listen))

    def connect(each: Asked, session: Session) -> None:
        for other in partners(asked.index(each), len(asked)):
            there = asked[other]
            if there.speaks and (port := ports.get(there.host.name)):
                each.answers.reached[there.host.name] = session.ask(
                    Reached, "connect", address=there.host.address, port=port, token=token
                )

    ask_all(pool, asked, lambda each: each.step(connect))


def partners(number: int, count: int) -> list[int]:
    """The hosts that host `number` of `count` connects to: the first, its two neighbours; the first connects to all."""
    if number == 0:
        return list(range(1, count))
    return sorted({0, number - 1, (number + 1) % count} - {number})


def _token(pool: ThreadPoolExecutor, asked: Sequence[Asked]) -> None:
    """The first host writes a file into the run's folder, and all must see it. The agent removes it at its end."""
    able = [each for each in asked if each.speaks and each.answers.run is not None]
    if not able:
        return
    first, name = able[0], f".lock-doctor-{secrets.token_hex(8)}"
    assert first.answers.run is not None
    folder = first.answers.run.path

    def write(each: Asked, session: Session) -> None:
        try:
            session.ask(bool, "write_token", folder=folder, name=name)
            each.answers.token = "wrote"
        except Refused as error:
            each.answers.token = str(error)

    first.step(write)
    if first.answers.token != "wrote":
        return

    def look(each: Asked, session: Session) -> None:
        each.answers.token = "saw" if session.ask(bool, "sees_token", folder=folder, name=name) else "missed"

    ask_all(pool, able[1:], lambda each: each.step(look))
