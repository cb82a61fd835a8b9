"""Watchdog: a rank that dies or hangs ends the whole job, and is named. Otherwise the others would wait for it.

Every rank reports its progress once a second through the process group's store, and reads the reports of the others;
`watchdog_rules` decides. Reporting and deciding are two threads: reporting blocks if rank 0, which keeps the store, is
stopped.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import timedelta
from types import TracebackType
from typing import Final

import torch.distributed as dist
from torch._C._distributed_c10d import Store, TCPStore

from mmae.distributed.collectives import is_of_communication, on_rank_0
from mmae.distributed.one_node import LOOPBACK, is_one_node
from mmae.distributed.tcp_probe import Listener, unreachable
from mmae.distributed.watchdog_rules import DEAD_SECONDS, SUSPECT_SECONDS, Pulse, Verdict, Watch
from mmae.errors import EXIT_FAILED, EXIT_LOST_RANK
from mmae.processes import started, this_machine
from mmae.terminal.edge import ending
from mmae.terminal.error_line import first_line, say_error, typed_line

PERIOD: Final = 1.0
"""Seconds between two pulses."""
_RANKS_A_SECOND: Final = 128
"""With more ranks pulses are rarer, because every rank reads all of them from one store."""
_LOOK_S: Final = 5.0
"""Seconds between connection attempts to a silent rank. A busy process does not accept, and its backlog is finite."""
_LINGER: Final = 2.5
"""Seconds in which a rank's last report reaches the others: a few pulses."""

WriteEnd = Callable[[int, str], None]
"""Records at which step a training ended, and how."""


class Watchdog:
    """A context around a training. With one rank it does nothing.

    Args:
        timeout: seconds without progress that a step may take.
    """

    def __init__(self, rank: int, world: int, timeout: float) -> None:
        self._on = world > 1
        self._rank, self._world, self._timeout = rank, world, timeout
        self._period = PERIOD * max(1.0, world / _RANKS_A_SECOND)
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._own = Pulse(
            rank, socket.gethostname(), this_machine() or f"rank {rank}", os.getpid(), started(os.getpid())
        )
        self._seen: dict[int, Pulse] = {}
        self._exchanged = time.monotonic()
        self._next_look = 0.0
        self._threads: list[threading.Thread] = []
        self._write_end: WriteEnd | None = None

    @property
    def watches(self) -> bool:
        """Whether it ends the job if a rank is lost."""
        return self._on

    def record_by(self, write_end: WriteEnd) -> None:
        """From now on the run's log.jsonl is this start's own: how the job ends is recorded there.

        Args:
            write_end: is called with the step, and a line about the end.
        """
        self._write_end = write_end

    @staticmethod
    def none() -> Watchdog:
        """A watchdog that does nothing."""
        return Watchdog(0, 1, 1.0)

    def at(self, step: int, phase: str) -> None:
        """Report the step and phase (`watchdog_rules.PHASES`) of this rank. Call it again after every progress."""
        with self._lock:
            self._own = replace(self._own, step=step, phase=phase, moves=self._own.moves + 1)

    @contextmanager
    def during(self, step: int, phase: str, then: str = "data") -> Iterator[None]:
        """A context for a phase, and the phase afterwards: as a rule the rank waits for data of the next step."""
        self.at(step, phase)
        yield
        self.at(step, then)

    def __enter__(self) -> Watchdog:
        if self._on:
            self._listener = Listener(LOOPBACK if is_one_node(os.environ) else os.environ["MASTER_ADDR"])
            self._own = replace(self._own, address=self._listener.address, port=self._listener.port)
            # A connection of its own: the thread that trains uses torch's.
            store = TCPStore(
                os.environ["MASTER_ADDR"],
                int(os.environ["MASTER_PORT"]),
                is_master=False,
                timeout=timedelta(seconds=DEAD_SECONDS),
            )
            # A random prefix: the store may outlive this attempt, and then still holds its last pulses.
            prefix = on_rank_0(lambda: f"mmae/heartbeat/{secrets.token_hex(8)}")
            keys = [f"{prefix}/{rank}" for rank in range(self._world)]
            for target, args in ((self._exchange, (store, keys)), (self._look, ())):
                thread = threading.Thread(target=target, args=args, daemon=True, name="heartbeat")
                thread.start()
                self._threads.append(thread)
        return self

    def __exit__(self, _kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if not self._on:
            return
        if error is not None:
            self._last_words(error)
        else:
            # No rank leaves before all are at the end: the store ends with rank 0.
            try:
                dist.barrier()
            except RuntimeError as broken:
                self._last_words(broken)
                raise
        self._ended.set()
        for thread in self._threads:
            thread.join(timeout=2 * PERIOD)

    def _last_words(self, error: BaseException) -> None:
        """Report why this rank ends, or wait for the verdict on the rank that made it fail."""
        if is_of_communication(error):
            # A connection broke: another rank is lost, and the watchdog is about to end this process for it.
            time.sleep(min(DEAD_SECONDS, self._timeout) + 3 * self._period)
            line = typed_line(error)
            say_error(f"mmae: rank {self._rank} on {self._own.host} failed with {line}")
            if self._rank == 0 and self._write_end is not None:
                self._write_end(self._own.step, line)
        told = ending(error)
        status = told.status if told is not None else EXIT_FAILED
        with self._lock:
            self._own = replace(self._own, failed=status, why=first_line(error)[:500])
        # Rank 0 keeps the store.
        time.sleep(max(_LINGER, 2 * self._period) if self._rank == 0 else 1.5 * self._period)

    def _exchange(self, store: Store, keys: list[str]) -> None:
        while not self._ended.wait(self._period if self._seen else PERIOD / 10):
            with self._lock:
                self._own = replace(self._own, beats=self._own.beats + 1)
                own = self._own
            try:
                store.set(keys[self._rank], json.dumps(asdict(own)))
                if not self._seen and not store.check(keys):
                    continue
                values = store.multi_get(keys)
            except (RuntimeError, ValueError):
                # The store is gone. The other thread sees that no reports arrive any more.
                continue
            self._seen = {rank: Pulse(**json.loads(value)) for rank, value in enumerate(values)}
            self._exchanged = time.monotonic()

    def _look(self) -> None:
        watch = Watch(self._rank, self._own.machine, self._timeout, _alive)
        while not self._ended.wait(PERIOD / 2):
            seen = self._seen
            if not seen or self._own.failed is not None:
                continue
            verdict = watch.judge(self._as_heard(seen), time.monotonic())
            if verdict is not None:
                self._end(verdict, seen)
            self._look_after(watch)

    def _look_after(self, watch: Watch) -> None:
        """Try to reach silent ranks: rank 0 tries all; the others try rank 0 once no reports arrive."""
        if time.monotonic() < self._next_look:
            return
        hears = self._hears()
        silent = watch.suspects(time.monotonic(), max(SUSPECT_SECONDS, 5 * self._period))
        suspects = [pulse for pulse in silent if self._rank == 0 or (pulse.rank == 0 and not hears)]
        if suspects:
            lost = unreachable((pulse.address, pulse.port) for pulse in suspects)
            with self._lock:
                self._own = replace(
                    self._own,
                    unreachable=[pulse.rank for pulse, is_lost in zip(suspects, lost, strict=True) if is_lost],
                )
            self._next_look = time.monotonic() + _LOOK_S

    def _as_heard(self, seen: dict[int, Pulse]) -> dict[int, Pulse]:
        """The reports to judge. Once they stop arriving, the store is gone, and only rank 0 can be blamed."""
        with self._lock:
            own = self._own
        if self._hears() or self._rank == 0:
            return {**seen, self._rank: own}
        return {0: seen[0], self._rank: own}

    def _hears(self) -> bool:
        return time.monotonic() - self._exchanged < 3 * self._period

    def _end(self, verdict: Verdict, seen: dict[int, Pulse]) -> None:
        """Print one line for each machine, then end. Nothing is saved: the run goes on from the last checkpoint."""
        if self._rank in verdict.ranks and len(verdict.ranks) < self._world:
            # This rank is the one that hangs: the ranks that wait for it report that.
            time.sleep(2 * _LINGER)
        if verdict.status != EXIT_LOST_RANK:
            # An error of one rank is often an error of all ranks: each prints its own.
            time.sleep(_LINGER / 2)
        if self._ended.is_set() or self._own.failed is not None:
            return
        here = [rank for rank, pulse in seen.items() if pulse.machine == self._own.machine]
        healthy = [rank for rank in here if rank not in verdict.ranks] or here
        speaks = self._rank == min(healthy)
        if self._write_end is not None and self._rank == min(set(seen) - set(verdict.ranks), default=self._rank):
            self._write_end(self._own.step, _recorded(verdict))
        if speaks:
            lost = "lost rank: " if verdict.status == EXIT_LOST_RANK else ""
            after = "; start the same command again: it goes on from the last checkpoint" if lost else ""
            say_error(f"mmae: error: {lost}{verdict.line}{after}")
            if verdict.hung:
                self._kill_later([seen[rank] for rank in verdict.ranks if rank in here])
        if not speaks or self._rank == 0:
            # The rank that prints must not see the others end first. Rank 0 keeps the store.
            time.sleep(_LINGER / 2 if self._rank else max(_LINGER, 2 * self._period))
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                continue
        os._exit(verdict.status)

    def _kill_later(self, pulses: list[Pulse]) -> None:
        """A hanging process ignores signals, and DeepSpeed's launcher waits half a minute before it kills it.

        The kill is delayed, so that the launcher sees this rank's status first.
        """
        pids = [str(pulse.pid) for pulse in pulses if pulse.rank != self._rank and _alive(pulse)]
        if pids:
            subprocess.Popen(
                ["sh", "-c", f"sleep 4; kill -9 {' '.join(pids)}"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )


def _recorded(verdict: Verdict) -> str:
    """The line for the run's log."""
    if verdict.status != EXIT_LOST_RANK:
        return verdict.line
    return f"lost rank {', '.join(map(str, verdict.ranks))}: {verdict.line}"


def _alive(pulse: Pulse) -> bool:
    return started(pulse.pid) == pulse.began
