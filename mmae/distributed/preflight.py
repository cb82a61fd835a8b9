"""Before the ranks train, each reports whether it can start, what it runs, and then whether it has met the others.

If one cannot, all end, and it is named. Without this, ranks would wait half an hour for a host that lacks the shards,
does not start, or uses a network interface that leads nowhere; and hosts with different code would train together.
Rank 0 reads all reports and decides, through the store that the process group will use.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from types import TracebackType
from typing import Final, TypeVar

import torch.distributed as dist
from torch._C._distributed_c10d import Store

from mmae.distributed.collectives import is_of_communication
from mmae.distributed.network_interface import choose_interface
from mmae.distributed.one_node import INTERFACES, open_store
from mmae.distributed.preflight_rules import End, Entry, judge, judge_meeting
from mmae.distributed.store_round import StoreRound
from mmae.errors import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_LOST_RANK
from mmae.terminal.edge import ending
from mmae.terminal.error_line import first_line, say_error, typed_line

T = TypeVar("T")

JOIN_S: Final = 300.0
"""Seconds between the first and the last rank: nodes may be started by hand, and import from a slow file system."""
MEET_S: Final = 1800.0
"""Seconds until all ranks are connected: DeepSpeed may compile an operation before a rank connects."""


class Preflight:
    """A context that keeps the store open until the process group has opened it again.

    Args:
        world: ranks that the launcher started.
    """

    def __init__(self, world: int) -> None:
        self._world = world
        self._rank = int(os.environ.get("RANK", "0"))
        self._host = socket.gethostname()
        said = os.environ.get("MMAE_JOIN_SECONDS")
        self._patience, self._meeting_patience = (JOIN_S, MEET_S) if said is None else (float(said), float(said))
        self._store: Store | None = None
        self._planned: Sequence[Entry] = ()

    def __enter__(self) -> Preflight:
        return self

    def __exit__(self, _kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._store = None

    def answer(self, plan: Callable[[], T], runs: Callable[[T], dict[str, str]]) -> T:
        """This rank's plan, if every rank has one and all plans agree.

        Args:
            plan: makes the plan.
            runs: the facts of a plan that must be the same on every rank.

        Raises:
            InputError: the only rank of a training cannot start.
            SystemExit: a rank cannot start, and one of them has printed why; the status is that of all ranks.
        """
        if self._world == 1:
            return plan()
        choose_interface(os.environ)
        made: T | None = None
        try:
            made = plan()
            entry = self._entry(runs(made))
        except Exception as error:
            entry = self._failed(error)
        end = self._ask(entry)
        if end is not None:
            raise SystemExit(end.status)
        assert made is not None
        return made

    def meet(self, join: Callable[[], int]) -> int:
        """This rank's number, if every rank can join the process group. Call it after `answer`.

        A rank that waits for others cannot be interrupted. If one of them fails, a thread ends this process; rank 0
        has printed why, and the status is that of all ranks.

        Args:
            join: joins the process group, and returns after the ranks have reached one another.
        """
        if self._world == 1:
            return join()
        assert self._store is not None
        meeting = self._round(self._store, "meeting", self._meeting_patience, all_listen=True)
        listener = threading.Thread(target=self._end_unless_all_meet, args=(meeting,), daemon=True, name="meeting")
        listener.start()
        try:
            rank, failed = join(), None
        except Exception as error:
            rank, failed = self._rank, error
        # Without a store the listener ends this process.
        with suppress(RuntimeError):
            meeting.say(self._entry({}) if failed is None else self._failed(failed))
        listener.join()
        if failed is not None:
            raise failed
        return rank

    def _entry(self, runs: dict[str, str], failed: int | None = None, why: str = "") -> Entry:
        chosen = " ".join(f"{name}={os.environ[name]}" for name in INTERFACES if os.environ.get(name))
        return Entry(self._rank, self._host, runs, failed, why, chosen)

    def _failed(self, error: Exception) -> Entry:
        if ended := ending(error):
            return self._entry({}, ended.status, ended.line.removeprefix("error: "))
        if is_of_communication(error):
            return self._entry({}, EXIT_LOST_RANK, f"cannot connect to the other ranks ({first_line(error)})")
        traceback.print_exception(error)
        return self._entry({}, EXIT_FAILED, typed_line(error))

    def _ask(self, entry: Entry) -> End | None:
        try:
            self._store = store = open_store(os.environ, timedelta(seconds=self._patience))
            preflight = self._round(store, "roll", self._patience)
            preflight.say(entry)
            return preflight.verdict(self._judge, _say)
        except (dist.DistError, RuntimeError, OSError) as error:
            end = self._no_store(error)
            if entry.failed is not None:
                end = End(entry.failed, f"rank {self._rank} on {entry.host}: {entry.why}")
            _say(end)
            return end

    def _round(self, store: Store, name: str, patience: float, *, all_listen: bool = False) -> StoreRound:
        # The store of torchrun's agent outlives an attempt.
        name = f"mmae/{name}/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
        return StoreRound(store, name, self._rank, self._world, patience, all_listen=all_listen)

    def _judge(self, entries: Sequence[Entry], waited: float) -> End | None:
        self._planned = entries
        return judge(entries, self._world, waited)

    def _end_unless_all_meet(self, meeting: StoreRound) -> None:
        try:
            end = meeting.verdict(lambda entries, waited: judge_meeting(entries, self._planned, waited), _say)
        except (dist.DistError, RuntimeError, OSError) as error:
            end = self._no_store(error)
            _say(end)
        if end is not None:
            sys.stderr.flush()
            os._exit(end.status)

    def _no_store(self, error: Exception) -> End:
        """The store failed: rank 0 is not running, or another program holds its port."""
        first = first_line(error)
        place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        if self._rank == 0 and self._store is None:
            line = f"rank 0 on {self._host}: cannot listen at {place} ({first}): is it this host's, and free? "
            return End(EXIT_BAD_INPUT, line + "Set MASTER_ADDR, and --master_port, anew")
        line = f"lost rank: rank 0 at {place} does not answer rank {self._rank} on {self._host} ({first})"
        return End(EXIT_LOST_RANK, line)


def _say(end: End) -> None:
    say_error(f"mmae: error: {end.line}")
