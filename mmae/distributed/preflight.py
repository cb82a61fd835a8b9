"""Before the ranks meet, each says what it runs and whether it may start: one that may not ends all, by name.

Else a host that lacks the shards, or does not come, would keep the others waiting for half an hour, and hosts with
different code would train what nobody wrote. Rank 0 hears all and decides, through the store that the group will use.
"""

from __future__ import annotations

import json
import os
import socket
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from datetime import timedelta
from types import TracebackType
from typing import Any, Final, TypeVar

import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, Store

from mmae.distributed.one_node import open_store
from mmae.distributed.preflight_rules import End, Entry, judge
from mmae.errors import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_LOST_RANK
from mmae.terminal.edge import ending
from mmae.terminal.error_line import first_line, say_error

T = TypeVar("T")

JOIN_S: Final = 300.0
"""Seconds that ranks may come apart: nodes may be started by hand, and import from a slow file system."""
_MORE_S: Final = 3.0
"""After a rank has failed: others may be about to say the same."""
_HEARD_S: Final = 20.0
"""For a verdict to be heard by who lives: busy hosts are slow to."""
_POLL_S: Final = 0.05
_SAID, _FAILED, _HEARD, _VERDICT = "said", "failed", "heard", "verdict"


class Preflight:
    """A context: the store lives in it, until the process group has made its own of it.

    Args:
        world: ranks that the launcher started.
    """

    def __init__(self, world: int) -> None:
        self._world = world
        self._rank = int(os.environ.get("RANK", "0"))
        self._patience = float(os.environ.get("MMAE_JOIN_SECONDS", JOIN_S))
        self._store: Store | None = None

    def __enter__(self) -> Preflight:
        return self

    def __exit__(self, _kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._store = None

    def answer(self, plan: Callable[[], T], runs: Callable[[T], dict[str, str]]) -> T:
        """This rank's plan, if every rank has one, and all run the same.

        Args:
            plan: makes it.
            runs: says of it what must be the same on every rank.

        Raises:
            InputError: of a rank that is alone.
            SystemExit: with the status that all ranks end with; one of them has said why.
        """
        if self._world == 1:
            return plan()
        made: T | None = None
        try:
            made = plan()
            entry = Entry(self._rank, socket.gethostname(), runs(made))
        except Exception as error:
            entry = self._failed(error)
        self._end_if(self._ask(entry))
        assert made is not None
        return made

    def _failed(self, error: Exception) -> Entry:
        if ended := ending(error):
            why = ended.line.removeprefix("error: ")
            return Entry(self._rank, socket.gethostname(), {}, ended.status, why)
        traceback.print_exception(error)
        return Entry(self._rank, socket.gethostname(), {}, EXIT_FAILED, f"{type(error).__name__}: {error}")

    def _ask(self, entry: Entry) -> End | None:
        try:
            self._store = store = self._open()
            store.set(f"rank/{self._rank}", json.dumps(asdict(entry)))
            if entry.failed is not None:
                store.add(_FAILED, 1)
            store.add(_SAID, 1)
            return self._decide(store) if self._rank == 0 else self._hear(store)
        except (dist.DistError, RuntimeError, OSError) as error:
            return self._no_store(entry, error)

    def _open(self) -> Store:
        store = open_store(os.environ, timedelta(seconds=self._patience))
        return PrefixStore(f"mmae/roll/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)

    def _decide(self, store: Store) -> End | None:
        began = time.monotonic()
        until = began + self._patience
        while store.add(_SAID, 0) < self._world and time.monotonic() < until:
            if store.add(_FAILED, 0):
                until = min(until, time.monotonic() + _MORE_S)
            time.sleep(_POLL_S)
        keys = [f"rank/{rank}" for rank in range(self._world)]
        there = keys if store.check(keys) else [key for key in keys if store.check([key])]
        entries = [Entry(**json.loads(text)) for text in store.multi_get(there)]
        end = judge(entries, self._world, time.monotonic() - began)
        if end is not None:
            _say(end)
        store.set(_VERDICT, json.dumps(asdict(end) if end else None))
        if end is not None:
            self._wait_until_heard(store, len(entries) - 1)
        return end

    def _hear(self, store: Store) -> End | None:
        store.wait([_VERDICT], timedelta(seconds=self._patience + 2 * _MORE_S))
        content: dict[str, Any] | None = json.loads(store.get(_VERDICT))
        store.add(_HEARD, 1)
        return End(**content) if content else None

    def _wait_until_heard(self, store: Store, others: int) -> None:
        """Rank 0 takes the store along when it ends."""
        until = time.monotonic() + _HEARD_S
        with suppress(RuntimeError):
            while store.add(_HEARD, 0) < others and time.monotonic() < until:
                time.sleep(_POLL_S)

    def _no_store(self, entry: Entry, error: Exception) -> End:
        """Rank 0 is not there, or not any more; or its port is another's."""
        if entry.failed is not None:
            end = End(entry.failed, f"rank {self._rank} on {entry.host}: {entry.why}")
        else:
            first = first_line(error)
            place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
            if self._rank == 0:
                line = f"rank 0 on {entry.host}: cannot listen at {place} ({first}): is it this host's, and free? "
                end = End(EXIT_BAD_INPUT, line + "Set MASTER_ADDR, and --master_port, anew")
            else:
                line = f"lost rank: rank 0 at {place} does not answer rank {self._rank} on {entry.host} ({first})"
                end = End(EXIT_LOST_RANK, line)
        _say(end)
        return end

    def _end_if(self, end: End | None) -> None:
        if end is not None:
            raise SystemExit(end.status)


def _say(end: End) -> None:
    say_error(f"mmae: error: {end.line}")
